"""Energy of a training by Hugging Face's Trainer, by phase, in its own logs.

    from longwatt.energy import EnergyCallback

    trainer = Trainer(..., callbacks=[EnergyCallback()])

Every log of the Trainer gets keys such as `energy/train_kwh`, which its integrations (trackio,
MLflow, W&B, ...) then show. An estimate has keys `energy_estimated/...` instead. Unknown
energy has no key. The whole log is `energy.jsonl` in the output folder, which `longwatt energy
summarize` reads.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from longwatt.energy import rated
from longwatt.energy.log import compress, log_parts
from longwatt.energy.marks import Marker
from longwatt.energy.meters import rapl
from longwatt.energy.meters.nvml import GpuMeters
from longwatt.energy.meters.processor import processor_facts
from longwatt.energy.recorder import Order
from longwatt.energy.sidecar import Sidecar
from longwatt.energy.workflows.options import watts_choice
from longwatt.gpus import listing
from longwatt.gpus.listing import GpuError
from longwatt.processes import cpu_seconds

LOG_NAME, APART_LOG = "energy", "energy_apart"  # of a training, and of what runs outside one
LOAD, TRAIN, EVALUATION, SAVE, FINISH = "load", "train", "validation", "checkpoint", "finish"
PREDICTION = "generate"
# Phases as people who use the Trainer call them. In the log they have a study's names.
LOG_KEYS = {
    TRAIN: "train", EVALUATION: "evaluation", SAVE: "saving", PREDICTION: "prediction",
}  # fmt: skip
J_OF_KWH = 3.6e6
CALLERS = 8  # of an event that are looked at; the handler is among the first four
UNSEEN_S = 0.001  # a mark that another one corrects stands for less


class EnergyReading(NamedTuple):
    """Joules that meters show at one moment, None if unknown."""

    at_ns: int
    joules: float | None


def energy_callback() -> type:
    """Return the class EnergyCallback, a TrainerCallback of transformers."""
    return _callback_class()


@functools.cache
def _callback_class() -> type:
    from transformers import TrainerCallback  # heavy, and absent where nobody trains

    members = {"__doc__": EnergyEvents.__doc__, "__module__": "longwatt.energy"}
    return type("EnergyCallback", (EnergyEvents, TrainerCallback), members)


def _safe(event: Callable[..., Any]) -> Callable[..., Any]:
    """Say a failure of a meter once, and meter nothing then.

    It never stops a training.
    """

    @functools.wraps(event)
    def safely(self: EnergyEvents, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self.broken or not state.is_local_process_zero:
            return
        try:
            event(self, args, state, control, **given)
        except Exception as error:
            self.broken = True
            self.say(f"energy is not metered any more ({type(error).__name__}: {error})")

    return safely


class EnergyEvents:
    """Meter the energy of a Trainer's training, evaluations, predictions and saving.

    One process of each node meters the GPUs that the node's processes use. Without GPUs the energy
    is that of the processors' counters, told at the end, or else an estimate by CPU time.

    Args:
        folder: for the log; None is the Trainer's output folder.
        watts_per_core: watts of one busy core for an estimate, `auto` (by the processor's rated
            power) or `none`.

    Raises:
        MeterError: `watts_per_core` is none of them.
    """

    def __init__(
        self, folder: str | Path | None = None, watts_per_core: float | str = rated.AUTO_WATTS
    ) -> None:
        self._folder = None if folder is None else Path(folder)
        self._watts_setting = rated.watts_setting({rated.WATTS_KEY: watts_choice(watts_per_core)})
        self.broken = False
        self._job: _MeteredJob | None = None
        self._training = False
        atexit.register(self._close, None)

    @_safe
    def on_init_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Go before callbacks that hand logs on, so that they hand on energy too."""
        _go_before_integrations(self)

    @_safe
    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Begin a training, or go on with one."""
        _go_before_integrations(self)
        self._close(None)  # a training before failed, and its process went on
        self._training = True
        self._job = self._begin(args, LOG_NAME)
        self._job.begin_attempt(state.global_step)

    @_safe
    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Begin an evaluation or a checkpoint, if one follows on this step."""
        self._what_follows(state, control)

    @_safe
    def on_epoch_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Begin an evaluation or a checkpoint, if one follows on this epoch."""
        self._what_follows(state, control)

    @_safe
    def on_prediction_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Begin an evaluation that nothing announced, at its first batch."""
        if self._job is None:
            self._job = self._begin(args, APART_LOG)
        if self._job.phase not in (EVALUATION, PREDICTION):
            self._job.go_on(EVALUATION, state.global_step)

    @_safe
    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
        """Add energies to a log, and to the history of all logs."""
        if self._job is None or logs is None or not state.is_world_process_zero:
            return
        found = self._job.keys(_several_nodes(args))
        logs.update(found)
        if state.log_history:
            state.log_history[-1].update(found)

    @_safe
    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """End an evaluation."""
        self._evaluated(state, control, EVALUATION)

    @_safe
    def on_predict(self, args: Any, state: Any, control: Any, *more: Any, **given: Any) -> None:
        """End a prediction, which began as an evaluation does."""
        self._evaluated(state, control, PREDICTION)

    @_safe
    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """End a checkpoint, which is durable now."""
        if self._job is not None and self._training:
            self._job.go_on(TRAIN, state.global_step)

    @_safe
    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """End the log, and say what the training took."""
        self._training = False
        job = self._job
        if job is None:
            return
        job.go_on(FINISH, state.global_step)
        self._close(0)
        self.say(job.in_words(self._watts_setting))

    def say(self, text: str) -> None:
        """Tell the user something, beside the Trainer's own output."""
        print(f"longwatt: {text}", file=sys.stderr, flush=True)

    def _begin(self, args: Any, name: str) -> _MeteredJob:
        node = int(os.environ.get("GROUP_RANK", "0") or 0)
        folder = self._folder or Path(args.output_dir)
        log = folder / (f"{name}.jsonl" if node == 0 else f"{name}_node{node}.jsonl")
        return _MeteredJob(log, gpus_of_trainer(args), self._watts_setting, self.say)

    def _what_follows(self, state: Any, control: Any) -> None:
        if self._job is None:
            return
        if control.should_evaluate:
            self._job.go_on(EVALUATION, state.global_step)
        elif control.should_save:
            self._job.go_on(SAVE, state.global_step)

    def _evaluated(self, state: Any, control: Any, what: str) -> None:
        if self._job is None:
            return
        if not self._training:
            self._job.go_on(FINISH, state.global_step, instead=what)
            job = self._job
            self._close(0)
            self.say(job.in_words(self._watts_setting))
        else:
            saving = control.should_save and what == EVALUATION
            self._job.go_on(SAVE if saving else TRAIN, state.global_step, instead=what)

    def _close(self, status: int | None) -> None:
        if self._job is not None:
            self._job.close(status)
            self._job = None


class _MeteredJob:
    """A training, or an evaluation outside one: its recorder, marks and sums by phase."""

    def __init__(
        self,
        log: Path,
        gpus: Sequence[str],
        watts: float | str | None,
        say: Callable[[str], None],
    ) -> None:
        self.log, self.phase = log, ""
        self._gpus = GpuMeters(gpus)
        self._cpu_of = os.getppid() if _local_processes() > 1 else os.getpid()
        self._attempt: int | None = None
        self._earlier_kwh: float | None = None
        self._sums: dict[str, float | None] = {}
        self._estimated = not gpus
        self._watts = None if gpus or rapl.can_be_read() else _watts_of(watts)
        self._earlier = _earlier(log, watts)
        self._sidecar = _recorder(Order(str(log), gpus, cpu_of=self._cpu_of), say)
        self._marker = Marker(log if self._sidecar else None, gpus)
        self._at = self._read()

    def begin_attempt(self, step: int) -> None:
        """Begin an attempt at a training, at a step that an earlier one has reached."""
        self._attempt = 1 + self._earlier.get("attempts", 0)
        self._earlier_kwh = self._earlier.get("spent_kwh")
        self._mark(LOAD, step, self._at.at_ns, checkpoint_counted=True)
        self.go_on(TRAIN, step)

    def go_on(self, phase: str, step: int, instead: str | None = None) -> None:
        """End a phase and begin the next.

        Args:
            phase: the next one.
            step: training step reached.
            instead: what the ended phase turned out to be.
        """
        now = self._read()
        if self.phase:
            ended = instead or self.phase
            if ended != self.phase:  # a mark right behind the one that stands in the log
                self._mark(ended, step, self._at.at_ns + 1)
            self._add(ended, now)
        self.phase, self._at = phase, now
        self._mark(phase, step, now.at_ns)

    def _mark(self, phase: str, step: int, at_ns: int, **more: Any) -> None:
        self._marker.mark(phase, attempt=self._attempt, step=step, at_ns=at_ns, **more)

    def keys(self, several_nodes: bool) -> dict[str, float]:
        """Return kWh by phase so far, as keys of a log.

        An unknown energy has none, nor has one of less than a meter's step.
        """
        found = {
            LOG_KEYS[name]: joules for name, joules in self._with_open().items() if name in LOG_KEYS
        }
        known = {name: joules / J_OF_KWH for name, joules in found.items() if joules}
        if known and None not in found.values():
            known["total"] = sum(known.values())
        if self._earlier_kwh is not None:
            known["earlier_attempts"] = self._earlier_kwh
        group = "energy_estimated" if self._estimated else "energy"
        group += "_of_first_node" if several_nodes else ""
        return {f"{group}/{name}_kwh": kwh for name, kwh in known.items()}

    def close(self, status: int | None) -> None:
        """End the log."""
        if self._sidecar is not None:
            self._sidecar.close(status)
            compress(self.log)

    def in_words(self, watts: float | str | None) -> str:
        """Say what the log holds in one line."""
        from longwatt.energy.reduction.reduce import ESTIMATE, summarize_log  # loads numpy

        if not log_parts(self.log):
            return "no energy was metered: there is no log"
        found = summarize_log([self.log], watts)
        source = found["energy_source"]
        how = f"estimated: {found['watts_basis']}" if source == ESTIMATE else f"by {source}"
        if found["energy_kwh"] is None:
            return f"its energy is unknown ({'; '.join(found['problems'])}); {self.log}"
        phases = found["phases"].items()
        parts = [
            f"{LOG_KEYS[name]} {row['energy_kwh']:.3g}"
            for name, row in phases
            if name in LOG_KEYS and row["energy_kwh"] and row["duration_s"] > UNSEEN_S
        ]
        wasted = found["wasted"]["energy_kwh"] if found["wasted"]["duration_s"] else None
        # Their own training may have ended well: another one began here from its first step.
        behind = "in earlier attempts here, which this one does not go on from"
        lost = "" if wasted is None else f"; {wasted:.3g} kWh more went {behind}"
        return f"{found['energy_kwh']:.3g} kWh ({', '.join(parts)}), {how}{lost}; {self.log}"

    def _with_open(self) -> dict[str, float | None]:
        """Return the sums with the phase that is open up to now."""
        before, now = dict(self._sums), self._read()
        self._add(self.phase, now)
        found, self._sums = self._sums, before
        return found

    def _add(self, phase: str, now: EnergyReading) -> None:
        so_far = self._sums.get(phase, 0.0)
        known = None not in (so_far, now.joules, self._at.joules)
        grown = (now.joules or 0.0) - (self._at.joules or 0.0)
        # A counter that began again (driver reloaded) leaves the phase unknown.
        self._sums[phase] = (so_far or 0.0) + grown if known and grown >= 0 else None

    def _read(self) -> EnergyReading:
        torch: Any = sys.modules.get("torch")
        if self._gpus.uuids:
            if torch is not None and torch.cuda.is_initialized():
                torch.cuda.synchronize()
            _, counters = self._gpus.counters_mj()
            known = [value for value in counters if value is not None]
            whole = len(known) == len(counters)
            return EnergyReading(time.monotonic_ns(), sum(known) / 1000 if whole else None)
        used = None if self._watts is None else cpu_seconds(self._cpu_of)
        if used is None or self._watts is None:
            return EnergyReading(time.monotonic_ns(), None)
        recorder_s = cpu_seconds(self._sidecar.pid) if self._sidecar else None
        return EnergyReading(time.monotonic_ns(), self._watts * (used - (recorder_s or 0.0)))


def gpus_of_trainer(args: Any) -> list[str]:
    """Return the UUIDs of the GPUs that a Trainer's processes on this node use.

    Raises:
        GpuError: it computes on what has no meter here, so that CPU time tells nothing of it.
    """
    if args.device.type == "cpu":
        return []
    if args.device.type != "cuda":
        raise GpuError(
            f"this training computes on {args.device.type}, and energy is read of NVIDIA's GPUs "
            "and of processors alone"
        )
    torch: Any = sys.modules["torch"]  # a Trainer has loaded it
    count = max(_local_processes(), args.n_gpu)
    first = (args.device.index or 0) if count == 1 else 0
    numbers = range(first, first + count)
    uuids = [getattr(torch.cuda.get_device_properties(n), "uuid", None) for n in numbers]
    if all(uuids):
        return [f"GPU-{uuid}" for uuid in uuids]
    return [device.uuid for device in listing.list_devices()]


def _local_processes() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1") or 1)


def _several_nodes(args: Any) -> bool:
    return bool(args.world_size > _local_processes())


def _watts_of(setting: float | str | None) -> float | None:
    return rated.rate(setting, processor_facts()).watts


def _recorder(order: Order, say: Callable[[str], None]) -> Sidecar | None:
    try:
        sidecar = Sidecar(order)
    except Exception as error:
        say(f"the energy recorder does not run: {error}")
        return None
    for uuid, reason in sidecar.refused.items():
        say(f"energy of {uuid} is not measured: {reason}")
    sidecar.watch(os.getpid())
    return sidecar


def _earlier(log: Path, watts: float | str | None) -> dict[str, Any]:
    """Return the number of attempts in a log, and what all of them took."""
    if not log_parts(log):
        return {}
    from longwatt.energy.reduction.reduce import reduce_log
    from longwatt.energy.reduction.segments import read_log

    found = read_log([log])
    row = reduce_log(found, watts)
    numbers = [segment.attempt or 0 for segment in found.segments]
    parts = [row["energy_kwh"], row["wasted"]["energy_kwh"] if row["wasted"]["duration_s"] else 0.0]
    spent = None if None in parts else sum(parts)
    return {"attempts": max(numbers, default=0), "spent_kwh": spent}


def _go_before_integrations(callback: Any) -> None:
    """Move a callback behind the Trainer's own and before those that hand logs on.

    The Trainer calls callbacks in their order, integrations before the user's. Keys that a later
    one adds to a log would never reach them. The handler is found as the caller: no event is given
    it.
    """
    handler = next(filter(None, map(_handler_of, _callers())), None)
    if handler is None or callback not in handler.callbacks:
        return
    others = [one for one in handler.callbacks if one is not callback]
    flows = [n for n, one in enumerate(others) if type(one).__name__ == "DefaultFlowCallback"]
    place = flows[-1] + 1 if flows else 0
    handler.callbacks[:] = [*others[:place], callback, *others[place:]]


def _callers() -> list[Mapping[str, Any]]:
    frame: types.FrameType | None = sys._getframe(1)
    found: list[Mapping[str, Any]] = []
    while frame is not None and len(found) < CALLERS:
        found.append(frame.f_locals)
        frame = frame.f_back
    return found


def _handler_of(names: Mapping[str, Any]) -> Any:
    owner = names.get("self")
    return owner if isinstance(getattr(owner, "callbacks", None), list) else None
