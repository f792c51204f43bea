/* A stand-in for NVIDIA's libnvidia-ml.so.1, for machines without a GPU: as much of NVML as longwatt
 * reads, with loads whose energy is known in closed form. Reached through the real pynvml.
 *
 * FAKE_NVML names a text file; see tests/nvml/__init__.py, which writes it:
 *     driver  key=value ...     init_error, zero_ns (time at which all loads begin)
 *     gpu     key=value ...     one line per GPU, in PCI order
 * FAKE_NVML_CLOCK names a file with the time in nanoseconds (8 bytes, little endian), mapped into
 * memory: a simulated clock. Without it the time is CLOCK_MONOTONIC.
 *
 * -DOLD_DRIVER leaves out what drivers before 2023 lack: the power fields and the event reasons.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3 };
enum { NO_PERMISSION = 4, NOT_FOUND = 6, LOST = 15 };
#define MAX_GPUS 16

typedef struct {
    char uuid[96], name[96], wave[24];
    double low, high, period, duty, on, off, idle;  /* W, W, s, share, s, s, W */
    double window, update, average; /* sensor, s; average: window of the mean (0: no such field) */
    double noise; /* share */
    double counter_update, reset_at, stale_from, stale_to, lost_from, lost_to; /* s */
    int counter, power, fields, permission, mig, throttle, utilization, flaky;
} Gpu;

static Gpu gpus[MAX_GPUS];
static int count, opened, init_error;
static int64_t zero_ns;
static volatile int64_t *simulated;

static double number(const char *line, const char *key, double otherwise) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, " %s=", key);
    const char *at = strstr(line, wanted);
    return at ? atof(at + strlen(wanted)) : otherwise;
}

static void word(const char *line, const char *key, char *into, size_t size) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, " %s=", key);
    const char *at = strstr(line, wanted);
    if (!at) return;
    at += strlen(wanted);
    size_t n = strcspn(at, " \n");
    if (n >= size) n = size - 1;
    memcpy(into, at, n);
    into[n] = 0;
}

static void read_gpu(const char *line, Gpu *g) {
    memset(g, 0, sizeof *g);
    strcpy(g->name, "Fake");
    strcpy(g->wave, "constant");
    word(line, "uuid", g->uuid, sizeof g->uuid);
    word(line, "name", g->name, sizeof g->name);
    word(line, "wave", g->wave, sizeof g->wave);
    g->low = number(line, "low", 100), g->high = number(line, "high", 400);
    g->period = number(line, "period", 1), g->duty = number(line, "duty", 0.5);
    g->on = number(line, "on", 0), g->off = number(line, "off", 1e12);
    g->idle = number(line, "idle", 60);
    g->window = number(line, "window", 0.1), g->update = number(line, "update", 0.1);
    g->average = number(line, "average", 1), g->noise = number(line, "noise", 0);
    g->counter_update = number(line, "counter_update", 0.1);
    g->reset_at = number(line, "reset_at", 1e12);
    g->stale_from = number(line, "stale_from", 1e12), g->stale_to = number(line, "stale_to", 1e12);
    g->lost_from = number(line, "lost_from", 1e12), g->lost_to = number(line, "lost_to", 1e12);
    g->counter = (int)number(line, "counter", 1), g->power = (int)number(line, "power", 1);
    g->fields = (int)number(line, "fields", 1), g->permission = (int)number(line, "permission", 1);
    g->mig = (int)number(line, "mig", 0), g->throttle = (int)number(line, "throttle", 0);
    g->utilization = (int)number(line, "utilization", 90);
    g->flaky = (int)number(line, "flaky", 0);
}

static void read_configuration(void) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[2048];
    count = 0;
    while (file && fgets(line, sizeof line, file)) {
        if (!strncmp(line, "gpu ", 4) && count < MAX_GPUS) read_gpu(line, &gpus[count++]);
        if (!strncmp(line, "driver ", 7)) {
            init_error = (int)number(line, "init_error", 0);
            zero_ns = 0;
            char text[32] = "0";
            word(line, "zero_ns", text, sizeof text);
            zero_ns = strtoll(text, NULL, 10);
        }
    }
    if (file) fclose(file);
    const char *clock = getenv("FAKE_NVML_CLOCK");
    if (clock && !simulated) {
        int descriptor = open(clock, O_RDONLY);
        void *memory = MAP_FAILED;
        if (descriptor >= 0) memory = mmap(NULL, 8, PROT_READ, MAP_SHARED, descriptor, 0);
        if (memory != MAP_FAILED) simulated = memory;
        if (descriptor >= 0) close(descriptor);
    }
}

static double now(void) {
    if (simulated) return (double)(*simulated - zero_ns) / 1e9;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)(t.tv_sec * 1000000000LL + t.tv_nsec - zero_ns) / 1e9;
}

/* Energy of the load from its own beginning to x seconds later, J. */
static double load_energy(const Gpu *g, double x) {
    if (!strcmp(g->wave, "square")) {
        double cycles = floor(x / g->period), rest = x - cycles * g->period;
        double high = g->duty * g->period;
        double cycle = g->high * high + g->low * (g->period - high);
        double last = rest < high ? g->high * rest : g->high * high + g->low * (rest - high);
        return cycles * cycle + last;
    }
    if (!strcmp(g->wave, "sine")) {
        double mean = (g->high + g->low) / 2, amplitude = (g->high - g->low) / 2;
        double w = 2 * M_PI / g->period;
        return mean * x + amplitude * (1 - cos(w * x)) / w;
    }
    if (!strcmp(g->wave, "step") && x < g->period) return g->low * x;
    if (!strcmp(g->wave, "step")) return g->low * g->period + g->high * (x - g->period);
    return g->high * x;
}

/* Energy from time 0 to t, J: idle before `on` and after `off`, the load between. */
static double energy(const Gpu *g, double t) {
    if (t <= g->on) return g->idle * t;
    double end = t < g->off ? t : g->off;
    return g->idle * g->on + load_energy(g, end - g->on) + g->idle * (t - end);
}

static double mean_power(const Gpu *g, double window) {
    double at = floor(now() / g->update) * g->update;
    double watts = (energy(g, at) - energy(g, at - window)) / window;
    if (g->noise > 0) { /* the same for every reading of one moment */
        uint64_t h = (uint64_t)(int64_t)llround(at * 1e6) * 0x9E3779B97F4A7C15ULL;
        h ^= h >> 29, h *= 0xBF58476D1CE4E5B9ULL, h ^= h >> 32;
        watts *= 1 + g->noise * (2 * ((double)(h >> 11) / 9007199254740992.0) - 1);
    }
    return watts;
}

static int trouble(const Gpu *g) {
    if (!opened) return UNINITIALIZED;
    double t = now();
    return t >= g->lost_from && t < g->lost_to ? LOST : SUCCESS;
}

#define CHECK(g) do { int code_ = trouble(g); if (code_) return code_; } while (0)

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    read_configuration();
    opened = !init_error;
    return init_error;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { opened = 0; return SUCCESS; }

const char *nvmlErrorString(int code) {
    switch (code) {
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case 9: return "Driver Not Loaded";
    case LOST: return "GPU is lost";
    default: return "error";
    }
}

static int say(char *text, unsigned size, const char *said) {
    snprintf(text, size, "%s", said);
    return SUCCESS;
}
static int set(Gpu *g, unsigned *target, unsigned value) {
    CHECK(g);
    *target = value;
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *text, unsigned size) { return say(text, size, "550.0-fake"); }
int nvmlSystemGetNVMLVersion(char *text, unsigned size) { return say(text, size, "12.550-fake"); }
int nvmlDeviceGetCount_v2(unsigned *n) {
    *n = (unsigned)count;
    return opened ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Gpu **g) {
    if (index >= (unsigned)count) return INVALID_ARGUMENT;
    *g = &gpus[index];
    return SUCCESS;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, Gpu **g) {
    for (int i = 0; i < count; i++)
        if (!strcmp(gpus[i].uuid, uuid)) {
            CHECK(&gpus[i]);
            *g = &gpus[i];
            return SUCCESS;
        }
    return NOT_FOUND;
}
int nvmlDeviceGetUUID(Gpu *g, char *text, unsigned size) { return say(text, size, g->uuid); }
int nvmlDeviceGetName(Gpu *g, char *text, unsigned size) { return say(text, size, g->name); }
int nvmlDeviceGetIndex(Gpu *g, unsigned *index) { *index = (unsigned)(g - gpus); return SUCCESS; }

typedef struct {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char bus_id[32];
} Pci;
int nvmlDeviceGetPciInfo_v3(Gpu *g, Pci *pci) {
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", (unsigned)(g - gpus) + 1);
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(Gpu *g, unsigned long long *mj) {
    CHECK(g);
    if (!g->permission) return NO_PERMISSION;
    if (!g->counter) return NOT_SUPPORTED;
    double t = now(), base = 1e9; /* J since the driver was loaded, long ago */
    if (t >= g->stale_from && t < g->stale_to) t = g->stale_from;
    double at = floor(t / g->counter_update) * g->counter_update, joules = base + energy(g, at);
    /* It never catches up. */
    if (t >= g->stale_to) joules -= energy(g, g->stale_to) - energy(g, g->stale_from);
    if (t >= g->reset_at) joules = energy(g, at) - energy(g, g->reset_at);
    *mj = (unsigned long long)(joules > 0 ? joules * 1000 : 0);
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(Gpu *g, unsigned *mw) {
    CHECK(g);
    if (!g->permission) return NO_PERMISSION;
    if (!g->power) return NOT_SUPPORTED;
    *mw = (unsigned)llround(1000 * mean_power(g, g->window));
    return SUCCESS;
}

#ifndef OLD_DRIVER
typedef struct {
    unsigned field, scope;
    long long timestamp, latency;
    unsigned type, status;
    union { double d; unsigned ui; unsigned long long ull; } value;
} Field;
int nvmlDeviceGetFieldValues(Gpu *g, int n, Field *fields) {
    CHECK(g);
    for (int i = 0; i < n; i++) {
        fields[i].type = 1;
        fields[i].status = NOT_SUPPORTED;
        if (!g->permission) fields[i].status = NO_PERMISSION;
        if (!g->permission || !g->power || !g->fields) continue;
        unsigned field = fields[i].field;
        double window = field == 186 ? g->window : field == 185 ? g->average : 0;
        if (window <= 0) continue;
        fields[i].status = SUCCESS;
        fields[i].value.ui = (unsigned)llround(1000 * mean_power(g, window));
    }
    return SUCCESS;
}
int nvmlDeviceGetCurrentClocksEventReasons(Gpu *g, unsigned long long *bits) {
    CHECK(g);
    *bits = (unsigned long long)g->throttle;
    return SUCCESS;
}
#endif
int nvmlDeviceGetCurrentClocksThrottleReasons(Gpu *g, unsigned long long *bits) {
    CHECK(g);
    *bits = (unsigned long long)g->throttle;
    return SUCCESS;
}

typedef struct { unsigned gpu, memory; } Rates;
int nvmlDeviceGetUtilizationRates(Gpu *g, Rates *rates) {
    CHECK(g);
    if (g->mig) return NOT_SUPPORTED;
    if (g->flaky) return 999; /* unknown error */
    double t = now();
    rates->gpu = t >= g->on && t < g->off ? (unsigned)g->utilization : 0;
    rates->memory = rates->gpu / 2;
    return SUCCESS;
}
typedef struct { unsigned long long total, free, used; } Memory;
int nvmlDeviceGetMemoryInfo(Gpu *g, Memory *memory) {
    CHECK(g);
    double t = now();
    memory->total = 80ULL << 30;
    memory->used = t >= g->on && t < g->off ? 20ULL << 30 : 1ULL << 30;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}
int nvmlDeviceGetTemperature(Gpu *g, unsigned sensor, unsigned *celsius) {
    (void)sensor;
    return set(g, celsius, 55);
}
int nvmlDeviceGetClockInfo(Gpu *g, unsigned kind, unsigned *mhz) {
    return set(g, mhz, kind == 1 ? 1410 : 1215);
}
int nvmlDeviceGetMaxClockInfo(Gpu *g, unsigned kind, unsigned *mhz) {
    return set(g, mhz, kind == 1 ? 1755 : 1215);
}
int nvmlDeviceGetEnforcedPowerLimit(Gpu *g, unsigned *mw) { return set(g, mw, 400000); }
int nvmlDeviceGetPowerManagementDefaultLimit(Gpu *g, unsigned *mw) { return set(g, mw, 400000); }
int nvmlDeviceGetPersistenceMode(Gpu *g, unsigned *mode) { return set(g, mode, 1); }
int nvmlDeviceGetEccMode(Gpu *g, unsigned *current, unsigned *pending) {
    CHECK(g);
    *current = *pending = 1;
    return SUCCESS;
}
int nvmlDeviceGetMigMode(Gpu *g, unsigned *current, unsigned *pending) {
    if (g->mig < 0) return NOT_SUPPORTED;
    *current = *pending = (unsigned)g->mig;
    return SUCCESS;
}
