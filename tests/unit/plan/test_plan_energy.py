"""How a plan writes energies of very small studies."""

import pytest

from longwatt.plan.report import _energy, _kwh


@pytest.mark.parametrize(
    ("kwh", "limit", "said"),
    [
        (2.5e-6, 4e-6, (2.5e-3, 4e-3, "Wh")),
        (0.0005, 2.0, (0.0005, 2.0, "kWh")),
        (3.0, 4.0, (3.0, 4.0, "kWh")),
        (None, None, (None, None, "kWh")),
    ],
)
def test_what_would_be_no_kwh_is_said_in_wh(kwh, limit, said):
    assert _energy(kwh, limit) == (pytest.approx(said[0]), pytest.approx(said[1]), said[2])


@pytest.mark.parametrize(
    ("kwh", "said"),
    [(2.53e-6, "2.5e-06"), (0.0123, "0.0123"), (1234.0, "1,234"), (0.0, "0.0000"), (None, "NA")],
)
def test_a_small_energy_keeps_its_digits_in_tables(kwh, said):
    assert _kwh(kwh) == said
