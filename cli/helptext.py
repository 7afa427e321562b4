"""Docstrings as --help: prose flows to the width of the screen, examples keep their lines. Knows no command."""

import inspect

import typer


def flow(app: typer.Typer) -> None:
    """Of all commands of the app and of its groups."""
    for command in app.registered_commands:
        command.help = flowing(inspect.getdoc(command.callback) or "")
    for group in app.registered_groups:
        if group.typer_instance:
            flow(group.typer_instance)


def flowing(text: str) -> str:
    """Paragraphs as one line each; indented ones are examples, at the margin: rich indents some and others not."""
    return "\n\n".join(
        inspect.cleandoc(f"\n{part}") if part.startswith(" ") else part.replace("\n", " ")
        for part in text.split("\n\n")
    )
