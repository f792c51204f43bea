import base64
import gzip

import pytest

from longwatt.answer import vega


def test_vega_is_packed_with_the_licence_of_every_part():
    text = gzip.decompress(base64.b64decode(vega.packed_vega())).decode()
    assert text.startswith("/* vega\n") and "exports.View" in text
    for name in vega.VEGA_PARTS:
        assert f"/* {name}\n" in text, name
    assert text.count("Copyright") >= len(vega.VEGA_PARTS)


def test_a_snakemake_without_vega_is_named(monkeypatch):
    monkeypatch.setattr(vega, "LIBRARY", vega.Path("vega/none.js"))
    vega._assets.cache_clear()
    vega.packed_vega.cache_clear()
    with pytest.raises(FileNotFoundError, match="Install `snakemake"):
        vega.packed_vega()
    vega._assets.cache_clear()
