"""What JSON may not say is refused at its place."""

import pytest

from app.errors import InvalidJSON
from app.strict_json import parse_fast, parse_strict


@pytest.mark.parametrize(
    ("body", "pointer", "said"),
    [
        (b'{"a":{"b":1,"b":2}}', "/a/b", "the key 'b' stands twice"),
        (b'{"a":[1,NaN]}', "/a/1", "send null"),
        (b'{"a/b":-Infinity}', "/a~1b", "send null"),
        (b'{"x":[{"y":1e999}]}', "/x/0/y", "beyond float64"),
        (b'{"batch_size":99999999999999999999}', "/batch_size", "beyond 63 bits"),
        (b"[" + b"9" * 5000 + b"]", "/0", "beyond 63 bits"),
    ],
)
def test_what_means_nothing_or_two_things_is_refused_at_its_place(
    body: bytes, pointer: str, said: str
) -> None:
    with pytest.raises(InvalidJSON, match=said) as refused:
        parse_strict(body)
    assert refused.value.errors[0].pointer == pointer


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is empty"),
        (b" \n", "the body is empty"),
        (b'{"a":1', "is cut off"),
        (b'{"a":"\x01"}', r"no JSON: Invalid control character at column 7$"),
        (b'{"a":\xff}', "is not UTF-8"),
        (b'{"a":NaN}', "NaN is no JSON number; send null"),
        (b'{"a":1e999}', "beyond float64"),
        (b'{"a":1e999,"a":3,"b":' + b"9" * 30 + b"}", "beyond float64"),
        (b"[" + b"1" * 5000 + b",NaN]", "NaN is no JSON number"),
        (b'"\\ud800"', "lone surrogate"),
        (b"[" * 2000 + b"]" * 2000, "nested deeper"),
    ],
)
def test_the_fast_decoder_says_what_to_do_too(body: bytes, said: str) -> None:
    with pytest.raises(InvalidJSON, match=said):
        parse_fast(body)
    with pytest.raises(InvalidJSON):
        parse_strict(body)


def test_of_equal_keys_the_fast_decoder_takes_the_last() -> None:
    assert parse_fast(b'{"a":1,"a":99999999999999999999}') == {"a": 1e20}
