"""Knowledge bases and attachments (language.md §12.1, §12.2)."""

from typing import Any, Literal

from compozy_prefect.language.models.base import Noun, Seconds, field


class EmbedderConfig(Noun):
    """How vectors are made."""

    called = "`config`"

    dimension: int = field(..., "Length of a vector.", gt=0)
    batch_size: int | None = field(None, "Texts in one call; 512 if not given.", gt=0)
    max_concurrent_workers: int | None = field(None, "Calls at a time.", gt=0)
    strip_newlines: bool = field(True, "Join the lines of a text.")
    retry: dict[str, Any] | None = field(None, "Attempts and pauses.")
    cache: dict[str, Any] | None = field(None, "Keep vectors of texts seen before.")


class Embedder(Noun):
    """What turns text into vectors."""

    id: str = field(..., "Unique in the project.", min_length=1)
    resource: str | None = field(None, "`embedder`, in autoloaded files.")
    provider: str = field(..., "Who answers.", min_length=1)
    model: str = field(..., "The provider's name of the model.", min_length=1)
    api_key: str | None = field(None, "The key, as a template.")
    config: EmbedderConfig = field(..., "How vectors are made.")


class VectorDbConfig(Noun):
    """How a vector database is reached."""

    called = "`config`"

    dsn: str | None = field(None, "Of PostgreSQL, as a template.")
    path: str | None = field(None, "Of the files.")
    table: str | None = field(None, "The table.")
    collection: str | None = field(None, "The collection.")
    index: str | None = field(None, "The index.")
    ensure_index: bool = field(False, "Make the index if there is none.")
    metric: Literal["cosine", "l2", "ip"] = field("cosine", "How far vectors are apart.")
    dimension: int = field(..., "Length of a vector.", gt=0)
    consistency: str | None = field(None, "Of reads.")
    auth: dict[str, Any] | None = field(None, "Credentials, as templates.")
    max_top_k: int | None = field(None, "Hits at most.", ge=0)
    pgvector: dict[str, Any] | None = field(None, "Index, pool and search of pgvector.")


class VectorDb(Noun):
    """Where vectors are kept."""

    called = "a vector database"

    id: str = field(..., "Unique in the project.", min_length=1)
    resource: str | None = field(None, "`vectordb`, in autoloaded files.")
    type: Literal["pgvector", "qdrant", "redis", "filesystem"] = field(..., "The store.")
    config: VectorDbConfig = field(..., "How it is reached.")


class Source(Noun):
    """Where knowledge comes from."""

    type: Literal["markdown_glob", "url"] = field(..., "Files or pages.")
    path: str | None = field(None, "A pattern of files, or one address.")
    paths: list[str] | None = field(None, "Patterns of files.")
    urls: list[str] | None = field(None, "Addresses.")


class Chunking(Noun):
    """How texts are cut."""

    called = "`chunking`"

    strategy: Literal["recursive_text_splitter"] = field("recursive_text_splitter", "How to cut.")
    size: int | None = field(None, "Tokens of a piece; 800 if not given.", ge=64, le=8192)
    overlap: int | None = field(None, "Tokens that pieces share; 120 if not given.", ge=0)


class Preprocess(Noun):
    """What happens to a text before it is cut."""

    called = "`preprocess`"

    dedupe: bool = field(True, "Keep one of equal pieces.")
    remove_html: bool = field(False, "Take the markup away.")


class Retrieval(Noun):
    """How knowledge is looked up."""

    called = "`retrieval`"

    top_k: int | None = field(None, "Hits at most; 5 if not given.", ge=1, le=50)
    min_score: float | None = field(None, "Hits below it are left out.", ge=0, le=1)
    max_tokens: int | None = field(None, "Tokens of all hits.", ge=0)
    min_results: int | None = field(None, "Fewer hits than this are none.", ge=0)
    inject_as: str | None = field(None, "Title of the block in the prompt.")
    fallback: str | None = field(None, "Text when there are no hits.")
    filters: dict[str, Any] | None = field(None, "What hits must have.")
    tool_fallback: Literal["never", "escalate", "auto"] | None = field(None, "Whether tools help.")


class KnowledgeBase(Noun):
    """Texts, cut and indexed, that prompts are enriched with."""

    called = "a knowledge base"

    id: str = field(..., "Unique in the project.", min_length=1)
    resource: str | None = field(None, "`knowledge_base`, in autoloaded files.")
    description: str | None = field(None, "What it holds.")
    embedder: str = field(..., "The id of an embedder.", min_length=1)
    vector_db: str = field(..., "The id of a vector database.", min_length=1)
    ingest: Literal["manual", "on_start"] = field("manual", "When it is filled.")
    sources: list[Source] = field(..., "Where its texts come from.", min_length=1)
    chunking: Chunking | None = field(None, "How texts are cut.")
    preprocess: Preprocess | None = field(None, "What happens before.")
    retrieval: Retrieval | None = field(None, "How it is looked up.")
    metadata: dict[str, Any] | None = field(None, "Tags and owners.")


class KnowledgeBinding(Retrieval):
    """A knowledge base that enriches the prompts of a project, workflow, agent or task."""

    called = "a knowledge binding"

    # A map without `id` is settings of the service, and is left alone (§13 no. 74).
    is_open = True

    id: str | None = field(None, "The id of a knowledge base.")
    retrieval: Retrieval | None = field(None, "The same fields, nested.")


Knowledge = list[KnowledgeBinding] | KnowledgeBinding


class Attachment(Noun):
    """An image, a document or another file that is sent with a prompt."""

    type: str = field(..., "image, audio, video, pdf (document), file or url.", min_length=1)
    url: str | None = field(None, "Where it is; a template.")
    path: str | None = field(None, "Beside the file that names it; a template.")
    urls: list[str] | None = field(None, "Several.")
    paths: list[str] | None = field(None, "Patterns of several.")
    name: str | None = field(None, "Shown to the model.")
    mime: str | None = field(
        None, "Such as `image/png`, where neither its bytes nor its name tell."
    )
    meta: dict[str, Any] | None = field(None, "Notes for people.")
    max_pages: int | None = field(None, "Of a PDF; not acted on yet.", gt=0)
    timeout: Seconds | None = field(None, "Of a download.")
