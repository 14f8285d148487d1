"""What `pudle advise` says of errors holds on seeds that it has never seen."""

import pytest
from advising.fresh_seeds import REQUIRED, advised


@pytest.mark.nightly
@pytest.mark.parametrize("name", REQUIRED)
def test_an_error_is_kept_on_nine_of_ten_fresh_seeds(name):
    _, errors = advised(REQUIRED[name])
    assert len(errors) == 10 and sum(each <= REQUIRED[name].error for each in errors) >= 9
