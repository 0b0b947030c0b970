import pytest

from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.rewards.choice import choice, named_choice
from gpg_vl.rewards.format import format_reward
from gpg_vl.types import Sample
from tests.support.cpu_time import within_cpu_seconds

COLOURS = ("red", "dark red", "blue", "green")
COUNTS = ("1", "10", "2", "12")


def sample(gold, choices):
    return Sample("1", "cv_bench/Count", "Which?", gold, "choice", choices)


def score(text, gold, choices):
    completion = parse_completion(text, think_opened=False, token_count=1, finish_reason="eos")
    return choice(completion, sample(gold, choices))


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("<think>It is red.</think><answer>(A)</answer>", "(A)", 1.0),
        ("<think>It is (B).</think><answer>(A)</answer>", "(B)", 0.0),
        ("<answer>(A)</answer>", "A", 1.0),
        ("<answer>(A)</answer>", "red", 1.0),
        ("", "(A)", 0.0),
        ("(A)", "(A)", 0.0),
        ("The answer is (A)", "(A)", 0.0),
        ("<answer>(A)", "(A)", 0.0),
        ("(A)</answer>", "(A)", 0.0),
        ("<answer>(A)</answer", "(A)", 0.0),
        ("<answer></answer>", "(A)", 0.0),
        ("<answer>(A)</answer><answer>(A)</answer>", "(A)", 0.0),
        ("<answer>(A)</answer> no, <answer>(B)</answer>", "(B)", 0.0),
        ("<answer><answer>(A)</answer>", "(A)", 0.0),
        ("<answer>(A)</answer></answer>", "(A)", 0.0),
        ("<think>It is <answer>(A)</answer>", "(A)", 0.0),  # reasoning that was never closed
        ("<think><answer>(A)</answer></think>", "(A)", 0.0),
        ("<think><answer>(A)</answer></think>(B)", "(A)", 0.0),
        ("<think>(B)?</think>I say <answer>(A)</answer>, sure.", "(A)", 1.0),
        ("<think><answer>(A)</answer></think><answer>(A)</answer>", "(A)", 0.0),
        ("<Answer>(A)</Answer>", "(A)", 0.0),
    ],
)
def test_the_answer_is_what_stands_in_exactly_one_pair_of_tags(text, gold, expected):
    assert score(text, gold, COLOURS) == expected


@pytest.mark.parametrize(
    ("answer", "choices", "named"),
    [
        ("(C)", COLOURS, 2),
        ("C", COLOURS, 2),
        ("c", COLOURS, 2),
        ("C.", COLOURS, 2),
        ("c)", COLOURS, 2),
        ("**C**", COLOURS, 2),
        ("（C）", COLOURS, 2),
        ("（Ｃ）", COLOURS, 2),
        ("_C_", COLOURS, 2),
        ("\n (C)\n", COLOURS, 2),
        ("The answer is (C)", COLOURS, 2),
        ("The answer is (c).", COLOURS, 2),
        ("Option C: blue", COLOURS, 2),
        ("(C) blue", COLOURS, 2),
        ("C) Blue.", COLOURS, 2),
        ("I think it is C", COLOURS, 2),  # there is no ninth choice
        ("blue", COLOURS, 2),
        ("BLUE.", COLOURS, 2),
        ("The car is blue", COLOURS, 2),
        ("red", COLOURS, 0),
        ("dark red", COLOURS, 1),
        ("dark  Red", COLOURS, 1),
        ("it is dark red!", COLOURS, 1),
        ("1", COUNTS, 0),
        ("10", COUNTS, 1),
        ("There are 10.", COUNTS, 1),
        ("(B) 10", COUNTS, 1),
        ("１０", COUNTS, 1),
        ("It is 1/5.", ("1", "1/5"), 1),
        ("It is -1.", ("1", "-1"), 1),
        ("10-fold", COUNTS, 1),
        ("False", ("true", "false"), 1),
        ("a cat", ("a dog", "a cat"), 1),
        ("A cat", ("a dog", "a cat"), 1),
        ("A  red ball", ("a blue ball", "red  ball"), 1),
        ("It is a blue one", ("An orange one", "Blue one"), 1),
        ("No", ("yes", "no"), 1),
        ("The answer is no.", ("yes", "no"), 1),
        ("The door is not open", ("open", "not open"), 1),
        ("(B) none of them", ("all of them", "none of them"), 1),
        ("No, it is not to the left.", ("yes", "no"), 1),
        ("No, it isn't", ("yes", "no"), 1),
        ("No there is no dog", ("yes", "no"), 1),
        ("**No**, it isn't", ("yes", "no"), 1),
        ("(B) No, it isn't.", ("yes", "no"), 1),
        ("Yes, it is not to the left.", ("no", "yes"), 1),
        ("False, there are no two dogs", ("true", "false"), 1),
        ("False. There are not two dogs", ("true", "false"), 1),
        ("Blue, it is not a dark one", COLOURS, 2),
        ("(B), a red one", ("blue", "red"), 1),
        ("(B), a cat.", ("dog", "cat"), 1),
        ("(B) or a feline", ("dog", "cat"), 1),
        ("(B) a/b", ("b/a", "a/b"), 1),
        # small letters behind a lead, Chinese leads, wrappers
        ("option b", COLOURS, 1),
        ("The correct answer is b.", COLOURS, 1),
        ("Answer: b", COLOURS, 1),
        ("b is correct", COLOURS, 1),
        ("选B", COLOURS, 1),
        ("选项B", COLOURS, 1),
        ("答案是B。", COLOURS, 1),
        ("{'answer': 'B'}", COLOURS, 1),
        ('{"answer": "(B)"}', COLOURS, 1),
        ("\\boxed{B}", COLOURS, 1),
        ("A small dog", ("cat", "dog"), 1),
        ("I think it is B", tuple("pqrstuvwxy"), 1),
        ("B, because I counted three legs", tuple("pqrstuvwxy"), 1),
        ("(A) B is closer", ("B is closer", "A is closer"), 0),
        ("The right answer is left", ("left", "right"), 0),
        # numbers and units
        ("two", ("0", "1", "2", "3"), 2),
        ("There are two chairs", ("0", "1", "2", "3"), 2),
        ("2.0", ("0", "1", "2", "3"), 2),
        ("10m", ("5 m", "10 m", "15 m"), 1),
        ("10 meters", ("5 m", "10 m", "15 m"), 1),
        ("1000 cm", ("5 m", "10 m", "15 m"), 1),
        ("50 degrees", ("40°", "50°", "60°"), 1),
        ("50", ("40°", "50°", "60°"), 1),
        ("4.40", ("3.85米", "4.40米"), 1),
        ("1/2", ("$\\frac{1}{3}$", "$\\frac{1}{2}$", "$2$"), 1),
        ("160√3", ("160m", "160√{3}m"), 1),
        ("2\\sqrt3", ("$\\sqrt{2}$", "$2\\sqrt{3}$", "$4$"), 1),
        # letters of their own, brackets, Chinese
        ("dog", ("A. cat", "B. dog"), 1),
        ("The dog", ("(A) cat", "(B) dog"), 1),
        ("table", ("chair (highlighted by a red box)", "table (highlighted by a blue box)"), 1),
        ("tram", ("a bus", "a tram"), 1),
        ("这是一只狗", ("猫", "狗"), 1),
        ("红色的", ("蓝色", "红色"), 1),
        # no, and what follows yes
        ("yes, there is no dog", ("no", "yes"), 1),
        ("There is no dog.", ("yes", "no"), 1),
        ("no dogs", ("yes", "no"), 1),
        ("Yes, the cat is not visible", ("yes", "no"), 0),
        ("a dog without a collar", ("cat", "dog"), 1),
        ("9:30 am", ("9:00", "9:30", "10:00"), 1),
        ("AB = 2√3", ("√3", "2√3"), 1),
        ("The answer is 2√3", ("√3", "2√3"), 1),
        # letters among letters
        ("A", ("D", "C", "B", "A"), 0),
        ("(A) D", ("D", "C", "B", "A"), 0),
        ("E", ("(c)", "(a)", "(e)", "(d)", "(b)"), 4),
    ],
)
def test_one_choice_is_named_by_letter_or_by_text(answer, choices, named):
    assert named_choice(answer, choices) == named
    gold = f"({'ABCDE'[named]})"
    assert score(f"<answer>{answer}</answer>", gold, choices) == 1.0
    other = f"({'ABCDE'[(named + 1) % len(choices)]})"
    assert score(f"<answer>{answer}</answer>", other, choices) == 0.0


@pytest.mark.parametrize(
    ("answer", "choices"),
    [
        ("", COLOURS),
        ("...", COLOURS),
        ("(E)", COLOURS),
        ("(Z)", COLOURS),
        ("ABCD", COLOURS),
        ("(A)(B)(C)(D)", COLOURS),
        ("A, B, C, D", COLOURS),
        ("A or B", COLOURS),
        ("(A) and (B)", COLOURS),
        ("red or blue", COLOURS),
        ("A) b) c) d)", COLOURS),
        ("red, dark red, blue, green", COLOURS),
        ("not (A)", COLOURS),
        ("Not A", COLOURS),
        ("≠ A", COLOURS),
        ("¬(A)", COLOURS),
        ("不是(A)", COLOURS),
        ("not red", COLOURS),
        ("It isn't (A)", COLOURS),
        ("It isn’t red", COLOURS),
        ("neither", COLOURS),
        ("Anything but (A)", COLOURS),
        ("(A) rather than the others", COLOURS),
        ("(A) is wrong", COLOURS),
        ("none of (A)", COLOURS),
        ("not no", ("no", "yes")),
        ("No is wrong", ("no", "yes")),
        ("No, not (B)", ("no", "yes")),
        ("Yes? No", ("yes", "maybe")),
        ("Yes, or rather no", ("yes", "no")),
        ("red is not it", COLOURS),
        ("red, not blue", COLOURS),
        ("(B) or a", COLOURS),
        ("(B) or a.", COLOURS),
        ("(B) or a is right", COLOURS),
        ("B/a", COLOURS),
        ("a/B", COLOURS),
        ("B, a, c", COLOURS),
        ("B, a, or c", COLOURS),
        ("**B** and c", COLOURS),
        ("B & d", COLOURS),
        ("not not open", ("open", "not open")),
        ("١", COUNTS),  # an Arabic 1
        ("a " * 5_000, ("a cat", "dog")),
        ("red, dark red", COLOURS),
        ("(A) blue", COLOURS),  # letter and text disagree
        ("Bicycle", COLOURS),
        # letters in abbreviations and names, refusals, other words
        ("N/A", COLOURS),
        ("The answer is N/A", COLOURS),
        ("Q&A", COLOURS),
        ("B&B", COLOURS),
        ("U.S.A.", COLOURS),
        ("vitamin A", COLOURS),
        ("A+", COLOURS),
        ("B-52", COLOURS),
        ("25 °C", COLOURS),
        ("Johnny B. Goode", COLOURS),
        ("I guess so", tuple("pqrstuvwxy")),
        ("Not enough information", COLOURS),
        ("It cannot be determined whether it is red", COLOURS),
        ("No answer can be given.", ("yes", "no")),
        ("I have no idea", ("yes", "no")),
        ("no image provided", ("yes", "no")),
        ("There is no way to tell.", ("yes", "no")),
        ("Unknown, no data", ("yes", "no")),
        ("No. 1", ("yes", "no")),
        ("B is false", COLOURS),
        ("I rule out B", COLOURS),
        ("∠B", COLOURS),
        ("B%", COLOURS),
        ("B flat", COLOURS),
        ("P(B)", COLOURS),
        ("βB", COLOURS),
        ("❌ B", COLOURS),
        ("blue is absent", COLOURS),
        ("far from red", COLOURS),
        ("everything but red", COLOURS),
        ("别选B", COLOURS),
        ("除了B", COLOURS),
        ("B错", COLOURS),
        ("难道是狗", ("猫", "狗")),
        ("World War I", tuple("pqrstuvwxy")),
        ("so do I", tuple("pqrstuvwxy")),
        ("There is no file attached", ("yes", "no")),
        ("No attachment", ("yes", "no")),
        ("B 60°", ("40°", "50°", "60°")),
        ("A - 3", ("2", "3")),
        ("-√3", ("√3", "2√3")),
        ("√3 + 1", ("√3", "2√3")),
        ("π²", ("π", "2π")),
        ("\0½", COUNTS),
        ("\ufdfa" * 20_000, COLOURS),
        ("排除B", COLOURS),
        ("不是狗", ("猫", "狗")),
        ("没有答案", ("有", "没有")),
        # numbers that are another, none, or not only one
        ("more than 10", COUNTS),
        ("≥ 10", COUNTS),
        ("±1", COUNTS),
        ("two or 12", COUNTS),
        ("A. 10", COUNTS),
        ("10 minutes", ("5 m", "10 m")),
        ("10 km", ("5 m", "10 m")),
        ("5", ("5 m", "5 km")),
        ("B. 3√2", ("$\\sqrt{2}$", "$2\\sqrt{3}$", "$3\\sqrt{2}$")),
        ("A. C", ("D", "C", "B", "A")),
        ("person", ("person (red)", "person (blue)")),
        ("reddish", COLOURS),
        ("A reddish one", COLOURS),
        ("blueberry", COLOURS),
        ("C3PO", COLOURS),
        ("100", COUNTS),
        ("1 or 10", COUNTS),
        ("1.5", COUNTS),
        ("0.1", COUNTS),
        ("1,200", COUNTS),
        ("-1", COUNTS),
        ("It is -1", COUNTS),
        ("(−1)", COUNTS),
        ("–1", COUNTS),
        ("1/5", COUNTS),
        ("1 / 5", COUNTS),
        ("5/1", COUNTS),
        ("1 /2", COUNTS),
        ("1/ 2", COUNTS),
        ("1-2", COUNTS),
        ("1 -2", COUNTS),
        ("1–2", COUNTS),
        ("1/2", COUNTS),
        ("½", COUNTS),
        ("red/blue", COLOURS),
        ("nan", COUNTS),
        ("untrue", ("true", "false")),
        ("true false", ("true", "false")),
        ("red", ("red", "red", "blue")),  # two choices share the text
        ("\u0410", COLOURS),  # a Cyrillic letter
        ("A" * 10_000, COLOURS),
        ("(" * 10_000, COLOURS),
        ("(A)(B)" * 2_000, COLOURS),
        ("A", ()),
    ],
)
def test_none_or_several_choices_named_score_nothing(answer, choices):
    assert named_choice(answer, choices) is None
    if choices:
        assert score(f"<answer>{answer}</answer>", "(A)", choices) == 0.0


@pytest.mark.parametrize(
    ("gold", "choices"),
    [("(E)", COLOURS), ("", COLOURS), ("yellow", COLOURS), ("(A) or (B)", COLOURS), ("(A)", ())],
)
def test_a_gold_answer_that_is_no_choice_cannot_be_graded(gold, choices):
    assert score("<answer>(A)</answer>", gold, choices) is None
    assert score("", gold, choices) is None


def test_a_step_of_answers_takes_little_time():
    """512 questions with 8 answers each, none seen before."""
    samples = [sample("(B)", tuple(f"{colour} {i}" for colour in COLOURS)) for i in range(512)]
    texts = ["(B)", "dark red", "It is dark red {i}", "(A) or (B)", "a blue {i}, I think", "B", "", "red {i}"]
    answers = [f"<think>{'so ' * 200}</think><answer>{text}</answer>" for text in texts]
    with within_cpu_seconds(0.5):
        for i, each in enumerate(samples):
            for answer in answers:
                text = answer.replace("{i}", str(i))
                completion = parse_completion(text, think_opened=False, token_count=1, finish_reason="eos")
                format_reward(completion, each)
                choice(completion, each)
