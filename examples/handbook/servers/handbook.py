#!/usr/bin/env python3
"""An MCP server over stdio: the pages of a handbook, to be searched and read, and its contents."""

from pathlib import Path

from mcp.server.mcpserver import MCPServer

PAGES = {path.stem: path.read_text("utf-8") for path in sorted(Path("pages").glob("*.md"))}

server = MCPServer("handbook")


@server.resource("handbook://contents", mime_type="application/json")
def contents() -> dict[str, str]:
    """The titles of the pages by their names."""
    return {name: text.partition("\n")[0].strip("# ") for name, text in PAGES.items()}


@server.tool(description="The names of the pages in which all of these words stand.")
def search(words: str) -> list[str]:
    wanted = words.lower().split()
    return [name for name, text in PAGES.items() if all(word in text.lower() for word in wanted)]


@server.tool(description="The text of one page.")
def read(page: str) -> str:
    if page not in PAGES:
        raise ValueError(f"there is no page {page}; there are {', '.join(PAGES)}")
    return PAGES[page]


@server.tool(description="Replaces the text of a page.")
def write(page: str, text: str) -> str:
    Path("pages", f"{page}.md").write_text(text, "utf-8")
    return "written"


if __name__ == "__main__":
    server.run("stdio")
