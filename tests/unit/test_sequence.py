"""Numbers and gaps against a plain set of what has arrived."""

from hypothesis import given, settings
from hypothesis import strategies as st

from shared_schema.sync.sequence import Progress, announce, receive, void, watermark

steps = st.lists(
    st.one_of(
        st.tuples(st.just("receive"), st.integers(1, 20), st.just(0)),
        st.tuples(st.just("announce"), st.integers(0, 22), st.just(0)),
        st.tuples(st.just("void"), st.integers(1, 20), st.integers(0, 5)),
    ),
    max_size=25,
)


@settings(deadline=None, database=None)
@given(steps)
def test_progress_is_what_a_set_of_numbers_says(told: list[tuple[str, int, int]]) -> None:
    progress, here, highest = Progress(), set(), 0
    for what, number, more in told:
        if what == "receive":
            expected = "new" if number > highest else "repeated" if number in here else "filled"
            progress, arrival = receive(progress, number)
            assert arrival == expected
            here.add(number)
            highest = max(highest, number)
        elif what == "announce":
            progress, highest = announce(progress, number), max(highest, number)
        else:
            progress = void(progress, [(number, number + more)])
            here |= {each for each in range(number, number + more + 1) if each <= highest}
        missing = [each for each in range(1, highest + 1) if each not in here]
        assert [each for low, high in progress.gaps for each in range(low, high + 1)] == missing
        assert progress.next == highest + 1
        assert watermark(progress) == (missing[0] - 1 if missing else highest)
