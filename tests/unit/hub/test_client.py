"""Fetch a hub's files through the real client and our own server, with all that can go wrong."""

import errno
import hashlib
import importlib
import os
import random
import socket
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from unittest.mock import Mock

import pytest
from huggingface_hub import HfApi, constants, hf_hub_download, scan_cache_dir

from longwatt.hub import client, requests
from longwatt.hub.client import HubError, HubUnreachable, Repository
from tests.hub_server import Fault, Hub, blob_id
from tests.unit.conftest import TOKEN

SMALL, LARGE = b'{"model_type": "led"}\n', random.Random(0).randbytes(200_000)
SHA256 = hashlib.sha256(LARGE).hexdigest()
FILES = {
    "config.json": SMALL,
    "model.safetensors": LARGE,
    "README.md": b"words",
    "flax_model.msgpack": b"no",
}


def both(names):
    """The choice of two files."""
    if "config.json" not in names:
        raise LookupError("it has no config.json")
    return ["config.json", "model.safetensors"]


@pytest.fixture
def repository(served) -> Repository:
    return Repository("model", "some/led", served.add("model", "some/led", FILES))


def whole(folder: Path) -> bool:
    return (folder / "config.json").read_bytes() == SMALL and (
        folder / "model.safetensors"
    ).read_bytes() == LARGE


def blobs(repository: Repository) -> list[str]:
    return sorted(path.name for path in (repository.cache / "blobs").iterdir())


def test_chosen_files_come_into_the_clients_own_cache(served, repository, tmp_path):
    folder = client.fetch(repository, both)
    assert whole(folder) and folder.is_relative_to(tmp_path / "home/hub")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert blobs(repository) == sorted([hashlib.sha256(LARGE).hexdigest(), blob_id(SMALL)])
    ask = dict(repo_id=repository.name, revision=repository.revision, local_files_only=True)
    assert (
        Path(hf_hub_download(filename="model.safetensors", **ask)) == folder / "model.safetensors"
    )


def test_a_token_goes_to_the_hub_and_to_nobody_else(served, repository, capfd, naps):
    served.faults.append(Fault("/api/", status=503))
    client.fetch(repository, both)
    assert {request.authorized for request in served.requests if "/cdn/" not in request.path} == {
        True
    }
    assert {request.authorized for request in served.requests if "/cdn/" in request.path} == {False}
    said = "".join(capfd.readouterr())
    assert "answers 503" in said and "fetching model.safetensors" in said and TOKEN not in said


def test_credentials_in_the_hubs_address_are_never_shown(
    served, repository, monkeypatch, capfd, caplog, naps
):
    monkeypatch.setenv("HF_ENDPOINT", served.url.replace("//", "//user:s3cret@"))
    importlib.reload(constants)
    for path in ("/api/", "config.json"):
        served.faults += [Fault(path, status=429), Fault(path, status=503)]
    served.faults.append(Fault("config.json", after=5))
    assert whole(client.fetch(repository, both))
    said = "".join(capfd.readouterr())
    assert f"the hub at {served.url} answers 503" in said
    assert f"Error while downloading from {served.url}" in caplog.text, "by the client"
    refused = [client.not_pinned(Repository("model", "some/led", "main"))]
    served.faults += [Fault("/api/", status=403), Fault("/api/", status=404)]
    for revision in ("b", "c", "d"):
        with pytest.raises(HubError, match=f"{served.url}") as error:
            client.fetch(Repository("model", "some/led", revision * 40), both)
        refused.append(str(error.value))
    served.stop()
    with pytest.raises(HubUnreachable, match=f"at {served.url}") as error:
        client.check_files(Repository("model", "some/led", "e" * 40), both)
    assert "s3cret" not in f"{said}{caplog.text}{refused}{error.value}{capfd.readouterr()}"


def test_what_is_there_is_not_fetched_again(served, repository):
    client.fetch(repository, both)
    served.requests.clear()
    assert whole(client.fetch(repository, both))
    assert [request.method for request in served.requests] == ["GET"] and served.fetched() == [], (
        "it only asked"
    )


def test_without_a_connection_the_cache_does(served, repository):
    client.fetch(repository, both)
    served.stop()
    assert whole(client.fetch(repository, both))
    client.check_files(repository, both)


def test_a_part_that_another_program_put_into_the_cache_is_not_taken_for_all(
    served, repository, naps
):
    """The rest of the repository is unknown here, and would be chosen with a connection."""
    for name in ("config.json", "model.safetensors"):
        hf_hub_download(repository.name, name, revision=repository.revision)
    served.stop()
    for ask in (client.fetch, client.check_files):
        with pytest.raises(
            HubUnreachable, match=r"no connection to the hub.*; without a connection, set `mirror`"
        ):
            ask(repository, both)
    with pytest.raises(
        HubUnreachable,
        match=r"of the cache, .*: another program put a part of the repository there",
    ):
        client.fetch(repository, both)


def test_a_cache_that_a_download_of_all_has_filled_does(served, naps):
    files = {**FILES, ".gitattributes": b"*.zip filter=lfs\n"}
    repository = Repository("model", "some/all", served.add("model", "some/all", files))
    for name in files:
        hf_hub_download(repository.name, name, revision=repository.revision)
    served.stop()
    client.check_files(repository, both)
    assert whole(client.fetch(repository, both)) and naps == []
    assert client.verified(repository, repository.snapshot, ["config.json", "model.safetensors"])


def test_what_was_fetched_once_says_what_more_there_is(served, repository, naps):
    client.fetch(repository, lambda names: ["config.json"])
    served.stop()
    with pytest.raises(
        HubUnreachable,
        match=r"of the cache, .*: it has no model\.safetensors; without a connection",
    ):
        client.fetch(repository, both)
    assert (
        client.fetch(repository, lambda names: ["config.json"]) / "config.json"
    ).read_bytes() == SMALL


def test_the_clients_own_look_at_its_cache_finds_nothing_wrong(served, repository):
    client.fetch(repository, both)
    found = scan_cache_dir(constants.HF_HUB_CACHE)
    assert not found.warnings and [entry.repo_id for entry in found.repos] == ["some/led"]
    assert found.size_on_disk == len(SMALL) + len(LARGE)


def test_a_damaged_cache_is_mended_or_named(served, repository, naps):
    client.fetch(repository, both)
    blob = repository.cache / "blobs" / hashlib.sha256(LARGE).hexdigest()
    blob.write_bytes(b"x" + LARGE[1:])
    assert whole(client.fetch(repository, both)), "fetched again"
    blob.write_bytes(LARGE[:-1])
    served.stop()
    with pytest.raises(
        HubError, match=r"model\.safetensors is damaged .* and the hub does not answer; remove it"
    ):
        client.fetch(repository, both)


# What the hub has not, or does not give


def test_an_unknown_repository_is_named(served):
    wanted = Repository("dataset", "some/none", "a" * 40)
    for ask in (client.fetch, client.check_files):
        with pytest.raises(
            HubError,
            match=r"some/none, revision a{40}: the hub has no such dataset repository.*/datasets/",
        ):
            ask(wanted, both)


@pytest.mark.parametrize("name", ["foo--bar/baz", "foo/ba..r", "foo/bar.git", "foo/bar-"])
def test_a_name_that_no_repository_can_have_is_named(served, name):
    with pytest.raises(HubError, match=f"{name}.*no repository of that name"):
        client.check_files(Repository("model", name, "a" * 40), both)


def test_a_file_of_another_size_is_no_lost_connection(repository):
    mismatch = OSError("Consistency check failed: file should be of size 10 but has size 5")
    unlike = pytest.raises(HubUnreachable, match=r"not whole.*size 10")
    with unlike as said, requests.explained(repository, "config.json"):
        raise mismatch
    assert "no connection" not in str(said.value) and said.value.answered


def test_an_unknown_revision_is_named(served, repository):
    wanted = Repository("model", repository.name, "b" * 40)
    for ask in (client.fetch, client.check_files):
        with pytest.raises(
            HubError,
            match=r"some/led, revision b{40}: it has no such revision; its commits are at http",
        ):
            ask(wanted, both)


def test_missing_files_are_named_with_those_there_are(served):
    commit = served.add("model", "some/empty", {"README.md": b"words"})
    for ask in (client.fetch, client.check_files):
        with pytest.raises(
            HubError, match=r"some/empty, revision \w+: it has no config\.json; it has README\.md"
        ):
            ask(Repository("model", "some/empty", commit), both)
    assert served.fetched() == []


def test_a_gated_repository_says_how_to_get_in(served, naps):
    commit = served.add("model", "some/gated", FILES, gated=True)
    for ask in (client.fetch, client.check_files):
        with pytest.raises(
            HubError, match=r"it is gated\. Accept its terms at http.*/some/gated .*`hf auth login`"
        ):
            ask(Repository("model", "some/gated", commit), both)
    assert naps == [], "asking again would not help"


def test_a_gated_repository_opens_to_an_account_that_has_accepted_its_terms(served):
    gated = Repository("model", "some/gated", served.add("model", "some/gated", FILES, gated=True))
    served.accepted = TOKEN
    client.check_files(gated, both)
    assert whole(client.fetch(gated, both))


def test_a_file_that_is_gone_all_the_same_is_named(served, repository):
    served.faults.append(
        Fault("config.json", status=404, headers={"X-Error-Code": "EntryNotFound"}, times=99)
    )
    with pytest.raises(HubError, match=r"file config\.json: it has no such file at this revision"):
        client.fetch(repository, both)


def test_another_refusal_is_passed_on(served, repository):
    served.faults.append(Fault("/api/", status=403, times=99))
    with pytest.raises(HubError, match="refuses with 403"):
        client.fetch(repository, both)


# What passes


@pytest.mark.parametrize("path", ["/api/", "config.json", "/cdn/.*safetensors"])
@pytest.mark.parametrize(
    "headers", [{"Retry-After": "7"}, {"RateLimit": '"api";r=0;t=7', "Retry-After": "99"}]
)
def test_a_busy_hub_is_given_the_time_it_asks_for(served, repository, naps, path, headers):
    served.faults.append(Fault(path, status=429, headers=headers, times=2))
    assert whole(client.fetch(repository, both))
    assert len(naps) == 2 and all(7 <= nap <= 8 for nap in naps)


def test_a_busy_hub_may_name_a_date(served, repository, naps):
    for seconds in (60, -60):
        headers = {"Retry-After": formatdate(time.time() + seconds, usegmt=True)}
        served.faults.append(Fault("/api/", status=503, headers=headers))
    assert whole(client.fetch(repository, both))
    assert len(naps) == 2 and 55 < naps[0] <= 60 and naps[1] == 0


def test_a_hub_that_names_no_time_or_still_has_room_is_asked_as_any_other(served, repository, naps):
    for headers in ({"Retry-After": "soon"}, {"RateLimit": '"api";r=5;t=300'}):
        served.faults.append(Fault("/api/", status=429, headers=headers))
    assert whole(client.fetch(repository, both)) and naps == [1, 2]


@pytest.mark.parametrize(
    ("path", "method"), [("/api/", "GET"), ("config.json", "HEAD"), ("/cdn/", "GET")]
)
def test_who_asks_for_an_hour_is_not_waited_for(served, repository, naps, path, method):
    """Not even by the client, which would."""
    served.faults.append(Fault(path, method, status=429, headers={"Retry-After": "3600"}, times=99))
    with pytest.raises(HubUnreachable, match="answers 429 and asks to wait 3600 s; try later"):
        client.fetch(repository, both)
    assert naps == []


@pytest.mark.parametrize("path", ["/api/", "config.json", "/cdn/"])
def test_a_failing_server_is_asked_again_after_growing_pauses(served, repository, naps, path):
    served.faults.append(Fault(path, status=503, times=3))
    assert whole(client.fetch(repository, both))
    assert naps == [1, 2, 4]


def test_a_server_that_fails_for_ever_ends_in_an_error(served, repository, naps, capfd):
    served.faults.append(Fault("/cdn/", status=500, times=99))
    with pytest.raises(
        HubUnreachable,
        match=r"model\.safetensors: the hub at http.* answers 500, 6 times; try later",
    ) as refused:
        client.fetch(repository, both)
    assert refused.value.answered and len(naps) == client.TRIES - 1
    said = capfd.readouterr().out
    assert "answers 500; next try in 1 s" in said and "try later" not in said, (
        "as long as it is tried"
    )


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_connection_is_borne(served, repository, naps, reset):
    served.faults.append(Fault("/cdn/", after=60_000, reset=reset))
    assert whole(client.fetch(repository, both)) and naps == [1]


def test_a_connection_that_is_cut_again_and_again_goes_on_as_long_as_it_brings_something(
    served, repository, naps
):
    served.faults.append(Fault("/cdn/", after=10_000, times=15))
    assert whole(client.fetch(repository, both)) and len(naps) == 15 > client.TRIES


def test_connections_that_are_reset_without_end_end_in_an_error(served, repository, naps):
    served.faults.append(Fault("/cdn/", after=60_000, reset=True, times=99))
    with pytest.raises(HubUnreachable, match=r"model\.safetensors: no connection"):
        client.fetch(repository, both)
    assert naps == [1, 2, 4, 8, 16] and blobs(repository) == [blob_id(SMALL)]


def process(repository: Repository, before: str = "pass") -> subprocess.Popen:
    """Another process that fetches the same."""
    code = (
        f"import os, time; {before}; from huggingface_hub import constants; "
        "from longwatt.hub import client as hub; "
        "constants.DOWNLOAD_CHUNK_SIZE = 10_000; "
        f"hub.fetch(hub.{repository!r}, lambda _: ['config.json', 'model.safetensors'])"
    )
    return subprocess.Popen([sys.executable, "-c", code])


def test_what_a_killed_process_left_is_no_hindrance_and_goes_when_nobody_can_write_it(
    served, repository, capfd
):
    served.faults.append(Fault("/cdn/", pause=0.2))
    killed = process(repository)
    while not any(
        path.stat().st_size for path in (repository.cache / "blobs").glob("*.incomplete")
    ):
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    (partial,) = (repository.cache / "blobs").glob("*.incomplete")
    assert whole(client.fetch(repository, both)) and partial.exists(), (
        "another process may write it"
    )
    old = time.time() - 2 * client.ABANDONED_S
    os.utime(partial, (old, old))
    (repository.cache / "blobs" / SHA256).unlink()
    assert whole(client.fetch(repository, both)) and not partial.exists()
    assert f"{partial} was left by a killed download: removed" in capfd.readouterr().out


def test_two_processes_that_fetch_one_file_at_once_transfer_it_once(served, repository):
    def until_both_want_it() -> None:
        end = time.monotonic() + 30
        while (
            sum("/revision/" in request.path for request in served.requests) < 2
            and time.monotonic() < end
        ):
            time.sleep(0.01)
        time.sleep(0.3)  # so that the other one would have asked for it, did it not wait

    served.faults.append(Fault("/cdn/", before=until_both_want_it))
    assert [one.wait() for one in (process(repository), process(repository))] == [0, 0]
    assert whole(repository.snapshot)
    assert sorted(served.fetched()) == ["config.json", "model.safetensors"]


# Some file systems grant every lock to everyone.
NO_LOCKS = "import fcntl; fcntl.flock = lambda *_: None"


@pytest.mark.parametrize(
    ("faults", "lead_s"),
    [
        pytest.param([Fault("/cdn/", pause=0.05, times=99)], 0.0, id="at once"),
        pytest.param([Fault("/cdn/", pause=0.15, times=99)], 0.7, id="half way"),
        pytest.param([Fault("/cdn/", pause=0.1), Fault("/cdn/", pause=0.01, times=99)], 0.3,
                     id="overtaken"),
        pytest.param([Fault("/cdn/", before=lambda: time.sleep(2.5))], 0.1, id="answered last"),
        pytest.param([Fault("/cdn/", pause=0.1),
                      Fault("/cdn/", pause=0.1, content=b"x" * len(LARGE))], 0.0,
                     id="one gets a wrong file"),
        pytest.param([Fault("/cdn/", pause=0.1, after=120_000, times=2)], 0.2, id="both are cut"),
    ],
)  # fmt: skip
def test_without_locks_two_processes_leave_a_right_file(served, repository, faults, lead_s):
    """No process has the file while the cache holds another. A shared one would be too long."""
    served.faults += faults
    one = process(repository, NO_LOCKS)
    while lead_s and "model.safetensors" not in served.fetched():
        time.sleep(0.01)
    time.sleep(lead_s)
    other = process(repository, NO_LOCKS)
    assert [one.wait(60), other.wait(60)] == [0, 0] and whole(repository.snapshot)
    assert blobs(repository) == sorted([blob_id(SMALL), SHA256])
    assert hashlib.sha256((repository.cache / "blobs" / SHA256).read_bytes()).hexdigest() == SHA256


def test_where_there_are_no_links_the_cache_holds_copies(served, repository, monkeypatch):
    monkeypatch.setattr(os, "symlink", Mock(side_effect=OSError("no links here")))
    folder = client.fetch(repository, both)
    assert whole(folder) and not (folder / "config.json").is_symlink()
    (folder / "config.json").write_bytes(b"damaged")
    assert whole(client.fetch(repository, both))


def test_a_hub_that_is_busy_when_asked_about_a_file_is_asked_again(served, repository, naps, capfd):
    served.faults.append(Fault("/resolve/", "HEAD", status=503, times=4))
    assert whole(client.fetch(repository, both)) and naps == [1, 2], (
        "the client itself asks twice at once"
    )
    assert "file config.json: the hub at http" in capfd.readouterr().out


def test_storage_that_is_out_of_reach_gives_way_to_plain_http(
    served, repository, monkeypatch, naps, capfd
):
    served.repositories["model", "some/led"].xet = True
    unreachable = Mock(
        side_effect=RuntimeError("error for url (https://cas/a?X-Amz-Signature=s3cret)")
    )
    monkeypatch.setattr("huggingface_hub.file_download.xet_get", unreachable)
    assert whole(client.fetch(repository, both)) and unreachable.call_count == 1 and naps == [1]
    said = capfd.readouterr().out
    assert (
        "(Xet) fails, so that plain HTTP comes next (error for url (https://cas/a))" in said
        and "s3cret" not in said
    )


# What is not what it should be


def test_a_wrong_file_is_fetched_once_more(served, repository, capfd):
    served.faults.append(Fault("/cdn/", content=b"x" * len(LARGE)))
    assert whole(client.fetch(repository, both))
    assert "has not its checksum" in capfd.readouterr().out


@pytest.mark.parametrize(("path", "size"), [("/cdn/", len(LARGE)), ("config.json", len(SMALL))])
def test_a_file_that_stays_wrong_never_enters_the_cache(served, repository, path, size):
    served.faults.append(Fault(path, content=b"x" * size, times=99))
    with pytest.raises(
        HubError, match=r"has not the checksum \w+ that the hub lists, twice; is a proxy or mirror"
    ):
        client.fetch(repository, both)
    assert len(blobs(repository)) == (1 if path == "/cdn/" else 0)


def test_a_page_of_a_login_portal_is_no_hub(served, repository, monkeypatch, naps):
    with Hub() as portal:
        monkeypatch.setenv("HF_ENDPOINT", portal.url)
        importlib.reload(constants)
        with pytest.raises(HubError, match="some/led"):
            client.fetch(repository, both)


# No connection


def test_no_connection_says_how_to_do_without(served, repository, naps):
    served.stop()
    said = rf"some/led, revision {repository.revision}: no connection to the hub at {served.url} "
    said += r".*; without a connection, set `mirror` in config.yaml to a folder that holds "
    said += r"some/led/ \(made elsewhere by `hf download some/led "
    said += rf"--revision {repository.revision} --local-dir FOLDER/some/led`\), set HF_ENDPOINT "
    said += r"to a mirror of"
    with pytest.raises(HubUnreachable, match=said) as refused:
        client.fetch(repository, both)
    assert not refused.value.answered and naps == [1, 2, 4, 8, 16]
    with pytest.raises(HubUnreachable, match="no connection to the hub") as refused:
        client.check_files(repository, both)
    assert str(refused.value).count("without a connection, set") == 1


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError(104, "reset"), TimeoutError(110, "timed out"),
     socket.gaierror(-2, "unknown"),
     OSError(errno.ENETUNREACH, "unreachable")],
)  # fmt: skip
def test_what_a_socket_says_is_no_connection(served, repository, monkeypatch, naps, error):
    monkeypatch.setattr(HfApi, "repo_info", Mock(side_effect=error))
    with pytest.raises(
        HubUnreachable, match=rf"no connection to the hub at .*{type(error).__name__}"
    ):
        client.fetch(repository, both)
    assert len(naps) == client.TRIES - 1


def test_a_full_disk_is_no_matter_of_the_connection(served, repository, monkeypatch, naps):
    monkeypatch.setattr(
        "huggingface_hub.file_download.http_get", Mock(side_effect=OSError(errno.ENOSPC, "full"))
    )
    with pytest.raises(OSError, match="full"):
        client.fetch(repository, both)
    assert naps == []


def test_a_client_that_was_told_to_stay_offline_asks_nobody(served, repository, monkeypatch, naps):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    importlib.reload(constants)
    with pytest.raises(
        HubUnreachable, match="HF_HUB_OFFLINE forbids to ask the hub; without a connection"
    ):
        client.fetch(repository, both)
    assert served.requests == [] and naps == []


def test_a_mirrors_folder_is_taken_as_it_is_checked(
    served, repository, tmp_path, monkeypatch, capfd
):
    folder = tmp_path / "mirror/some/led"
    # As `hf download --local-dir` makes it.
    for name in ("config.json", "model.safetensors"):
        hf_hub_download(repository.name, name, revision=repository.revision, local_dir=folder)
    served.requests.clear()
    monkeypatch.setenv(client.MIRROR, str(tmp_path / "mirror"))
    client.check_files(repository, both)
    assert client.fetch(repository, both) == folder and whole(folder) and served.requests == []
    assert "unverified" not in capfd.readouterr().out and client.verified(
        repository, folder, ["model.safetensors"]
    )
    assert client.cached(repository, "config.json") == folder / "config.json"

    other = Repository("model", "some/led", "c" * 40)
    with pytest.raises(
        HubError, match=rf"is of revision {repository.revision}, but the study pins .*c{{40}}"
    ):
        client.fetch(other, both)
    (folder / "model.safetensors").write_bytes(LARGE[:-1])
    with pytest.raises(HubError, match=r"model\.safetensors is damaged: it has not the checksum"):
        client.fetch(repository, both)
    (folder / "config.json").unlink()
    with pytest.raises(
        HubError, match=r"it has no config\.json; .*mirror/some/led has model\.safetensors"
    ):
        client.check_files(repository, both)


def test_a_mirrors_folder_without_a_word_about_its_files_is_called_unverified(
    repository, tmp_path, monkeypatch, capfd
):
    folder = tmp_path / "mirror/some/led"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(FILES[name])
    monkeypatch.setenv(client.MIRROR, str(tmp_path / "mirror"))
    assert client.fetch(repository, both) == folder and not client.verified(
        repository, folder, ["config.json"]
    )
    said = (
        f"{folder}: unverified: nothing says that config.json, model.safetensors is of {repository}"
    )
    assert said in capfd.readouterr().out


# Pins


def test_a_branch_is_refused_with_the_commit_that_it_means(served, repository):
    assert client.not_pinned(repository) is None
    branch = Repository("model", "some/led", "main")
    said = client.not_pinned(branch) or ""
    assert (
        "'main' of some/led is no commit" in said
        and f"its commit is {repository.revision} now" in said
    )
    served.stop()
    assert "see http" in (client.not_pinned(branch) or "")


def test_a_check_downloads_nothing_and_asks_once(served, repository):
    for _ in range(2):
        client.check_files(repository, both)
    assert served.fetched() == [] and not repository.cache.exists()
    assert [request.method for request in served.requests] == ["GET", "HEAD", "HEAD"]
