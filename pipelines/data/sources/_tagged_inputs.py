"""What sources of words with tags read to predict for: sentences without tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pipelines.core.contracts import FieldSpec, RowIssues, Source, parse_object
from pipelines.core.errors import UserError
from pipelines.core.types import Example
from pipelines.data.sources import _tagged_lines
from pipelines.data.sources.rows import Columns, extension, read_rows

WITH_NAMES = (".jsonl", ".ndjson", ".parquet", ".pq")
"""Extensions of files whose columns have names, and whose rows are sentences."""


class TaggedInputs(Source):
    """Files as those that are learnt from, but that tags aren't looked at; or a text."""

    @property
    def named_tokens(self) -> str:
        """The column of words in files whose columns have names."""
        return "tokens"

    def token_number(self, form: _tagged_lines.LineFormat, path: Path) -> int:
        """The column of words in other files."""
        return _tagged_lines.CONLLU.index("form") if form.conllu else 0

    def read_inputs(
        self, path: Path, fields: Mapping[str, FieldSpec], issues: RowIssues
    ) -> Iterator[Example]:
        if extension(path) in WITH_NAMES:
            columns = Columns({"tokens": self.named_tokens}, fields=fields)
            yield from read_rows(path, columns, issues)
            return
        form = _tagged_lines.find_format(path)
        number = self.token_number(form, path)
        for _, sentence in _tagged_lines.read_sentences(path, form, [number], issues):
            yield {"tokens": [word for (word,) in sentence]}

    def parse_input(self, text: str, fields: Mapping[str, FieldSpec]) -> Example:
        """A sentence as a text, whose words lie between spaces, or as {"tokens": [...]}."""
        if text.lstrip().startswith("{"):
            return parse_object(text, fields)
        if not text.split():
            raise UserError("an input must be a sentence, with a word at least; received none")
        return {"tokens": text.split()}
