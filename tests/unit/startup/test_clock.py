"""Files from the future, after the clock was set back."""

import os
import time

from longwatt.startup.clock import clock_was_set_back, lower_future_times


def test_only_what_is_from_the_future_is_lowered(tmp_path):
    (tmp_path / "log").mkdir()
    past, future = time.time() - 1000, time.time() + 86400
    for name, when in (("old", past), ("log/run", future), ("new", future), ("newer", future + 10)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (when, when))
    assert clock_was_set_back(tmp_path / "log")
    assert lower_future_times([tmp_path]) == 3
    assert not clock_was_set_back(tmp_path / "log") and lower_future_times([tmp_path]) == 0
    assert (tmp_path / "old").stat().st_mtime == past
    assert (tmp_path / "new").stat().st_mtime == (tmp_path / "newer").stat().st_mtime <= time.time()


def test_no_earlier_run_and_no_folder(tmp_path):
    assert not clock_was_set_back(tmp_path / "log")
    assert lower_future_times([tmp_path / "none"]) == 0
