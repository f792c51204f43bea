"""Find this project, however it came here, and have its package imported (no rules here).

A path, a repository at a tag and an installed wheel are all possible, and importing workflows.
"""

import os
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod
from snakemake.sourcecache import HostingProviderFile, LocalGitFile, LocalSourceFile

TREE = "LONGWATT_TREE"  # where the run that started this job has unpacked the project
OLD = 10**9  # seconds since 1970; before any result
PACKAGES = ("longwatt", "snakemake_*_plugin_longwatt")


def unpacked(source):
    """Unpack the project at a file's commit, once for all runs and jobs that share a cache."""
    # A branch may have moved since the run began.
    if not workflow.is_main_process and os.path.isdir(os.environ.get(TREE, "")):
        return Path(os.environ[TREE])
    import git

    try:
        if isinstance(source, LocalGitFile):
            repository = git.Repo(source.repo_path)
        else:
            source.fetch_if_required()
            repository = source.hosted_repo.repo
        commit = repository.commit(source.ref).hexsha
        tree = workflow.sourcecache.cache_path / "longwatt" / commit
        if not tree.is_dir():
            write_tree(repository, commit, tree)
    except (git.GitError, ValueError, OSError, tarfile.TarError) as error:
        raise WorkflowError(
            f"longwatt could not be unpacked from {source} below "
            f"{workflow.sourcecache.cache_path} (XDG_CACHE_HOME says where that is): {error}"
        )
    os.environ[TREE] = str(tree)
    return tree


def dated(member, path):
    """Have a file unpacked as an old one: a new tag is no reason to make work again.

    Snakemake's trigger `code` goes by the time of a script.
    """
    return tarfile.data_filter(member.replace(mtime=OLD), path)


def write_tree(repository, commit, tree):
    """Write the files of a commit to a folder, which appears with all of them or not at all."""
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tree.parent) as folder:
        with tempfile.TemporaryFile() as file:
            repository.archive(file, commit)
            file.seek(0)
            with tarfile.open(fileobj=file) as archive:
                archive.extractall(f"{folder}/tree", filter=dated)
        try:
            os.rename(f"{folder}/tree", tree)
        except OSError:
            if not tree.is_dir():  # else another run was faster
                raise


def found_root():
    """Return the folder that holds `workflow/` and `studies/`."""
    here = workflow.current_basedir
    if isinstance(here, LocalSourceFile):
        return Path(here.get_path_or_uri(secret_free=True)).resolve().parents[1]
    if isinstance(here, LocalGitFile | HostingProviderFile):
        return unpacked(here)
    raise WorkflowError(
        f"{here}: longwatt is a package beside its rules, which a web address does not bring; "
        'give its Snakefile as a path, or as github("OWNER/longwatt", '
        'path="workflow/Snakefile", tag="...")'
    )


def linked(packages):
    """Link an installed wheel's packages into a folder that other Pythons may look in."""
    folder = Path(".snakemake", "longwatt", "lib").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for package in (one for pattern in PACKAGES for one in packages.glob(pattern)):
        link = folder / package.name
        if not (link.is_symlink() and link.resolve() == package.resolve()):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                os.symlink(package, f"{place}/link")
                os.replace(f"{place}/link", link)
    return folder


def found_library():
    """Return the folder that jobs need on Python's path, None where they find the package so."""
    if (ROOT / "workflow" / "lib").is_dir():
        return ROOT / "workflow" / "lib"
    methods = (
        workflow.deployment_settings and workflow.deployment_settings.deployment_method
    )
    package = find_spec("longwatt")
    installed = (
        package and Path(package.submodule_search_locations[0]).resolve() == ROOT.parent
    )
    # An environment or image has no longwatt, and must not see all that lies beside this one.
    own = {DeploymentMethod.CONDA, DeploymentMethod.APPTAINER} & set(methods or ())
    if installed and not own:
        return None
    return linked(ROOT.parent.parent)


def contents(root):
    """Read the files of a project that a result or a message may hang on."""
    package = root / "workflow" / "lib" / "longwatt"
    package = package if package.is_dir() else root.parent
    folders = [
        root / "workflow" / "scripts",
        root / "workflow" / "schemas",
        root / "studies",
    ]
    sought = [(package, "**/*.py"), *((folder, "*.[pyj]*") for folder in folders)]
    found = (
        (one, one.relative_to(top.parent))
        for top, name in sought
        for one in top.glob(name)
    )
    return {
        place: one.read_bytes()
        for one, place in found
        if "workflow_files" not in place.parts
    }


def named_here(names):
    """Map names of rules in the importing workflow to their names here, those it imports alone."""
    modifier = workflow.modifier
    return {
        modifier.modify_rulename(one): one
        for one in names
        if modifier.avail_rulename(one)
    }


ROOT = found_root()
LIBRARY = found_library()
if LIBRARY:
    # Jobs of a conda environment, and workers on another node, see the same package as this
    # process.
    sys.path.insert(0, str(LIBRARY))
    inherited = dict(os.environ).get("PYTHONPATH", "")
    os.environ.update(
        PYTHONPATH=os.pathsep.join(filter(None, [str(LIBRARY), inherited]))
    )

from longwatt import shipped

if shipped.ROOT.resolve() != ROOT.resolve() and contents(shipped.ROOT) != contents(
    ROOT
):
    raise WorkflowError(
        f"two longwatts that differ: the rules are those of {ROOT}, but Python had loaded "
        f"the package of {shipped.ROOT} before; install the version that the Snakefile names "
        "(docs/how-to/install.md), or import longwatt in no Snakefile or plugin before its rules"
    )

if any(
    workflow.modifier.path_modifier.replace_prefix(name) != name
    for name in ("results/", "resources/", "logs/")
):
    raise WorkflowError(
        "module: longwatt takes no `prefix` or `replace_prefix`, since its jobs know their paths; "
        "say where results go with --directory or `workdir:` instead"
    )
