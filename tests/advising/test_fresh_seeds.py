"""What `pudle advise` says of errors holds on seeds that it has never seen."""

import pytest
from advising.fresh_seeds import REQUIRED, kept_on_fresh_seeds

import pudle


@pytest.mark.nightly
@pytest.mark.parametrize("name", REQUIRED)
def test_an_error_is_kept_on_nine_of_ten_fresh_seeds(name):
    asked = REQUIRED[name]
    advice = pudle.advise(asked.dataset, asked.algorithm, loss=asked.loss, error=asked.error)
    errors, count, _ = kept_on_fresh_seeds(asked, advice)
    assert len(errors) == 10 and count >= 9
