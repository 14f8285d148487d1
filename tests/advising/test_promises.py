"""What `pudle advise` promises is kept on seeds that it has never seen."""

from __future__ import annotations

import pytest
from advising.promises import WISHES, kept_on_fresh_seeds

import pudle


@pytest.mark.nightly
@pytest.mark.parametrize("name", WISHES)
def test_a_promise_is_kept_on_nine_of_ten_fresh_seeds(name):
    wished = WISHES[name]
    advice = pudle.advise(wished.dataset, wished.algorithm, loss=wished.loss, error=wished.error)
    kept = kept_on_fresh_seeds(wished, advice)
    assert len(kept.errors) == 10 and kept.count(wished) >= 9
