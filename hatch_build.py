"""Put the workflow into a wheel, so that `longwatt run` needs no clone (longwatt/shipped.py).

An editable installation finds it in the checkout. Hatchling's own `force-include` would copy it
there too, where it would grow old.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIPPED = (
    "Snakefile", "config.yaml", "workflow/Snakefile", "workflow/rules", "workflow/scripts",
    "workflow/schemas", "workflow/report", "studies", "envs", "profiles",
)  # fmt: skip


class WorkflowFiles(BuildHookInterface):
    """Add the files of the workflow to a wheel, each at its path below longwatt/workflow_files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add them to what is to be built, but to no editable installation."""
        if version != "editable":
            places = {path: f"longwatt/workflow_files/{path}" for path in SHIPPED}
            build_data["force_include"].update(places)
