"""The laws of the registers (design §3.4) for any state and any order of events."""

from hypothesis import given
from hypothesis import strategies as st

from shared_schema.contract.documents import Document, erase, hash_record, merge_documents
from shared_schema.contract.policy import display
from shared_schema.contract.registers import (
    Dot,
    Register,
    Sibling,
    Stamp,
    covers,
    decode_token,
    encode_token,
    in_dot_order,
    join,
    merge,
    write,
)

INCARNATIONS = ("p-0000000000000001", "p-0000000000000002", "v-0000000000000001")


def sibling_of(dot: Dot) -> Sibling:
    """The value that was written under a dot: one dot, one value."""
    return Sibling(dot, Stamp(1_000 + dot.counter * 7 % 5, len(dot.incarnation) % 2), None, f"{dot.incarnation[:3]} {dot.counter % 3}")


@st.composite
def registers(draw: st.DrawFn) -> Register:
    """Any state that a register may have: some of the writes that its context covers are still siblings."""
    context = draw(st.dictionaries(st.sampled_from(INCARNATIONS), st.integers(1, 4)))
    covered = [Dot(name, counter) for name, last in sorted(context.items()) for counter in range(1, last + 1)]
    kept = draw(st.sets(st.sampled_from(covered))) if covered else set()
    return Register(context, in_dot_order(sibling_of(dot) for dot in kept))


@st.composite
def documents(draw: st.DrawFn) -> Document:
    if draw(st.integers(0, 9)) == 0:
        return erase()
    return Document.of(
        draw(st.dictionaries(st.sampled_from(("name", "amount", "life")), registers().filter(lambda each: bool(each.siblings))))
    )


@given(registers(), registers())
def test_merge_is_commutative(left: Register, right: Register) -> None:
    assert merge(left, right) == merge(right, left)


@given(registers(), registers(), registers())
def test_merge_is_associative(one: Register, two: Register, three: Register) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@given(registers(), registers())
def test_merge_is_idempotent_and_absorbs_what_it_has_seen(left: Register, right: Register) -> None:
    both = merge(left, right)
    assert merge(left, left) == left
    assert merge(both, left) == merge(both, right) == both


@given(registers(), registers())
def test_contexts_never_shrink_and_cover_every_sibling(left: Register, right: Register) -> None:
    both = merge(left, right)
    assert both.context == join(left.context, right.context)
    assert all(covers(both.context, sibling.dot) for sibling in both.siblings)


@given(registers(), registers())
def test_a_write_is_gone_only_where_somebody_had_it_in_view(left: Register, right: Register) -> None:
    """A sibling of either side vanishes exactly if the other side's context covers it and the other side no longer has it."""
    after = {sibling.dot for sibling in merge(left, right).siblings}
    for here, there in ((left, right), (right, left)):
        others = {sibling.dot for sibling in there.siblings}
        for sibling in here.siblings:
            replaced = sibling.dot not in others and there.context.get(sibling.dot.incarnation, 0) >= sibling.dot.counter
            assert (sibling.dot in after) == (not replaced)


@given(registers(), registers(), st.integers(5, 9))
def test_a_save_covers_what_its_token_covers_and_nothing_else(stored: Register, shown: Register, counter: int) -> None:
    new = sibling_of(Dot(INCARNATIONS[0], counter))
    after = write(stored, decode_token(encode_token(shown.context)), new)
    assert {sibling.dot for sibling in after.siblings} == {new.dot} | {
        sibling.dot for sibling in stored.siblings if not covers(shown.context, sibling.dot)
    }
    assert after.context == join(stored.context, {new.dot.incarnation: counter})


@given(registers(), st.integers(5, 9))
def test_a_forged_token_hides_nothing_that_is_yet_to_come(stored: Register, counter: int) -> None:
    """A token that claims to have seen a thousand writes covers only the stored ones: the next write of the others still shows."""
    forged = dict.fromkeys(INCARNATIONS, 1_000)
    after = write(stored, forged, sibling_of(Dot(INCARNATIONS[0], counter)))
    late = Dot(INCARNATIONS[2], 5)
    assert late in {sibling.dot for sibling in merge(after, Register({INCARNATIONS[2]: 5}, (sibling_of(late),))).siblings}


@given(registers(), st.sampled_from(("latest", "vendor", "partner", "unheard of")), st.randoms(use_true_random=False))
def test_the_display_depends_on_the_state_alone(register: Register, rule: str, random: object) -> None:
    shuffled = list(register.siblings)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis' Random
    assert display(Register(register.context, tuple(shuffled)), rule) == display(register, rule)
    assert (display(register, rule) is None) == (not register.siblings)


@given(documents(), documents(), documents())
def test_documents_converge_to_equal_bytes_and_hashes_in_any_order(one: Document, two: Document, three: Document) -> None:
    left = merge_documents(merge_documents(one, two), three)
    right = merge_documents(three, merge_documents(two, one))
    assert left.encode() == right.encode()
    assert hash_record("01a0c450-6c00-71a4-af33-b1fbcf16676a", left.encode()) == hash_record(
        "01a0c450-6c00-71a4-af33-b1fbcf16676a", right.encode()
    )
    assert left.erased == any(each.erased for each in (one, two, three))


@given(documents())
def test_a_document_is_its_bytes(document: Document) -> None:
    again = Document.decode(document.encode())
    assert again.encode() == document.encode() and list(again) == list(document)
    assert again.registers() == document.registers()
