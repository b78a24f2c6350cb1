"""Tables as LaTeX: what is escaped, how wide and long ones are set; a compiler takes them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgaug.analysis.report.latex import MOST_ROWS, SIZES, booktabs, document, escape, table
from fgaug.analysis.report.parts import Table

HOSTILE = r"""\input{/etc/passwd} & % $x$ #1 _a_ {b} ~ ^ <i> | " ` -- ''x,, [1] * ±ψΔ° ü ß ł ñ"""


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a & b_c", r"a \& b\_c"),
        ("50% of $5 #1", r"50\% of \$5 \#1"),
        ("\\x{y}", r"\textbackslash{}x\{y\}"),
        ("a~b^c", r"a\textasciitilde{}b\textasciicircum{}c"),
        ("<0.001", r"\textless{}0.001"),
        ("0.80 ± 0.01", r"0.80 $\pm$ 0.01"),
        ("\N{MINUS SIGN}0.3", "$-$0.3"),
        ("\N{EN DASH}", "--"),
        ("a--b", "a-{}-b"),  # not a dash
        ("''", "'{}'"),  # not a quotation mark
        ("[1] *", "{[}1{]} {*}"),  # after a row's end `[1]` would be a length and `*` a star
        ("two\nlines\t", "two lines "),
        ("\x00\x1b\u200b", ""),  # controls print nothing
        ("ψ = 0.7", r"$\psi$ = 0.7"),
        ("u\u0308", "ü"),  # one letter, not a letter and a mark
        ("0.850", "0.850"),
    ],
)
def test_text_is_printed_as_it_stands(text: str, printed: str) -> None:
    assert escape(text) == printed


@given(st.text())
def test_no_text_leaves_a_command_or_an_open_brace(text: str) -> None:
    bare = re.sub(r"\\(text[a-z]+\{\}|[a-zA-Z]+|[&%$#_{},])", "", escape(text))
    bare = re.sub(r"\$[^$]*\$", "", bare)
    assert not set(bare.replace("{}", "").replace("{[}", "").replace("{]}", "")) & set("\\&%$#_^")
    depth = 0
    for letter in bare:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth in (0, 1)
    assert depth == 0


def frame(rows: int = 2) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "arm": ["baseline", *["a_b"] * (rows - 1)],
            "acc mean": ["0.800"] * rows,
            "acc std": ["0.004"] * rows,
            "loss": ["0.46"] * rows,
        }
    )


def test_columns_that_share_a_word_share_a_head() -> None:
    tex = booktabs(
        frame(), caption="50% more", label="x y", words=("arm",), kinds=("baseline", "arm")
    )
    assert tex.splitlines()[:3] == [
        r"\begin{table}[htbp]",
        r"\centering",
        r"\caption{50\% more}\label{tab:x-y}",
    ]
    assert r"\begin{tabular}{@{}lrrr@{}}" in tex
    assert r" & \multicolumn{2}{c}{acc} &  \\" in tex
    assert r"\cmidrule(lr){2-3}" in tex
    assert r"arm & mean & std & loss \\" in tex
    body = tex.split(r"\midrule", 1)[1]
    assert body.startswith("\nbaseline & 0.800 & 0.004 & 0.46 \\\\\n\\midrule\na\\_b & ")
    assert tex.count(r"\midrule") == 2  # below the head, and where the kind changes


def test_a_table_keeps_its_note_and_name() -> None:
    part = Table(
        name="gains", title="Gains", frame=frame(), text=frame(), words=("arm",), note="n_1 < 2"
    )
    tex = table(part)
    assert r"\label{tab:gains}" in tex
    assert r"n\_1 \textless{} 2" in tex
    assert tex.index(r"\end{tabular}") < tex.index(r"n\_1")


def test_long_tables_break_over_pages() -> None:
    assert "longtable" not in booktabs(frame(MOST_ROWS), caption="c", label="l")
    tex = booktabs(frame(MOST_ROWS + 1), caption="c", label="l", words=("arm",))
    assert r"\begin{longtable}" in tex
    assert r"\begin{table}" not in tex
    assert tex.count(r"\toprule") == 2  # the head of the first page, and of the others
    assert tex.count("0.800") == MOST_ROWS + 1


def test_wide_tables_shrink_and_long_words_wrap() -> None:
    wide = pd.DataFrame({f"c{i} x": ["0.123 to 0.456"] for i in range(7)})
    sizes = [
        next(size for size, _ in SIZES if size in booktabs(shown, caption="c", label="l"))
        for shown in (wide.iloc[:, :3], wide)
    ]
    assert sizes[0] == r"\small"
    assert sizes[1] != r"\small"
    told = pd.DataFrame({"why": ["word " * 40], "n": ["1"]})
    assert re.search(
        r"\{@\{\}>\{\\raggedright\\arraybackslash\}p\{\d+pt\}r@\{\}\}",
        booktabs(told, caption="c", label="l", words=("why",)),
    )


def test_a_document_takes_its_tables_in() -> None:
    assert r"\input{a.tex}" in document(["a.tex", "b.tex"])
    assert "There are no tables." in document([])


def compiled(folder: Path, name: str = "all.tex") -> str:
    """Return the log of a compiler that made a PDF of `name`."""
    commands = {
        "pdflatex": ["-interaction=nonstopmode", "-halt-on-error"],
        "tectonic": ["--keep-logs"],
    }
    found = next((tool for tool in commands if shutil.which(tool)), None)
    assert found, (
        "This test needs pdflatex or tectonic: apt-get install texlive-latex-base "
        "texlive-latex-recommended"
    )
    done = subprocess.run(
        [found, *commands[found], name], cwd=folder, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (folder / name).with_suffix(".pdf").stat().st_size > 1000
    return (folder / name).with_suffix(".log").read_text(encoding="utf-8", errors="replace")


@pytest.mark.slow
@pytest.mark.parametrize("which", ["thesis", "breast"])
def test_the_published_tables_compile_and_fit_the_page(which: str, tmp_path: Path) -> None:
    from fgaug.analysis.published import write

    tables = write.published(which, tmp_path / which).parent / "tables"
    log = compiled(tables)
    assert "Overfull \\hbox" not in log
    assert "Missing character" not in log


@pytest.mark.slow
def test_hostile_labels_compile(tmp_path: Path) -> None:
    rows = MOST_ROWS + 5
    text = pd.DataFrame(
        {
            "arm": [HOSTILE, *["[2]*"] * (rows - 1)],
            HOSTILE: ["1"] * rows,
            "p a": ["<0.001"] * rows,
            "p b": ["\N{EN DASH}"] * rows,
        }
    )
    short = booktabs(text.head(3), caption=HOSTILE, label=HOSTILE, words=("arm",), note=HOSTILE)
    long = booktabs(text, caption=HOSTILE, label="long", words=("arm",), kinds=["x"] * rows)
    (tmp_path / "short.tex").write_text(short, encoding="utf-8")
    (tmp_path / "long.tex").write_text(long, encoding="utf-8")
    (tmp_path / "all.tex").write_text(document(["short.tex", "long.tex"]), encoding="utf-8")
    log = compiled(tmp_path)
    assert "/etc/passwd" not in re.sub(r"\s", "", log)
    assert "Missing character" not in log
