"""Ctrl-C ends a job as SIGTERM does, and a second one at once."""

import os
import signal

import pytest

from longwatt.jobs import sigterm


@pytest.fixture(autouse=True)
def state(monkeypatch):
    monkeypatch.setattr(sigterm, "_State", type("_State", (sigterm._State,), {}))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_are_noted_in_work_that_saves_before_it_leaves(number):
    sigterm.listen()
    with sigterm.deferred():
        assert not sigterm.asked()
        os.kill(os.getpid(), number)
        assert sigterm.asked()


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")]
)
def test_both_end_other_work_at_once(number, said):
    sigterm.listen()
    with pytest.raises(sigterm.Stopped, match=f"stopped by {said}"):
        os.kill(os.getpid(), number)


def test_a_second_press_ends_work_that_saves(monkeypatch):
    sigterm.listen()
    with sigterm.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # the same press, by another way
        os.kill(os.getpid(), signal.SIGTERM)
        sigterm._State.asked_at -= sigterm.SECOND_PRESS_S
        os.kill(os.getpid(), signal.SIGTERM)  # repeated to workers, and no press
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_process_that_was_started_deaf_to_ctrl_c_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sigterm.listen()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
