"""`personsearch evaluate`: detection and search metrics of a model, or of saved detections."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personsearch.cli.options import DeviceOption, JsonOption, check_device, print_json
from personsearch.terminal import echo

if TYPE_CHECKING:
    from personsearch.datasets.dataset import Dataset
    from personsearch.evaluation.comparison import Comparison
    from personsearch.evaluation.search import SearchResult


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A checkpoint folder, an exported .onnx, a .toml of networks, or an .npz of "
            "detections.",
        ),
    ],
    data: Annotated[Path, typer.Option(help="The data set's folder.")],
    protocol: Annotated[
        list[str] | None, typer.Option(help="A search protocol; repeatable. Default: the first.")
    ] = None,
    split: Annotated[str, typer.Option(help="The split that is searched.")] = "test",
    score_threshold: Annotated[
        list[float] | None,
        typer.Option(help="Lowest detection score; repeatable. Search uses the first."),
    ] = None,
    convention: Annotated[
        str, typer.Option(help="'standard', or 'seqnet' for the published code's numbers.")
    ] = "standard",
    confidence_weighted: Annotated[
        bool | None,
        typer.Option(
            "--confidence-weighted/--no-confidence-weighted",
            help="Multiply similarities by scores; default: as the model does, or the .npz says. "
            "The next line of the table has the other choice.",
        ),
    ] = None,
    bounds: Annotated[
        bool, typer.Option(help="Also search on true boxes, and by colour alone; not for an .npz.")
    ] = True,
    context: Annotated[
        str, typer.Option(help="K1,K2: also search with context bipartite graph matching.")
    ] = "",
    per_query: Annotated[
        Path | None, typer.Option(help="Write every query's average precision to this CSV file.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write detections and queries to this .npz file.")
    ] = None,
    device: DeviceOption = "auto",
    json_output: JsonOption = False,
) -> None:
    """Measure detection and search on a data set.

    Example: personsearch evaluate runs/oim --data synth --protocol all --protocol cross-camera
    """
    from dataclasses import replace

    from personsearch.cli.progress import StepProgress
    from personsearch.datasets import open_dataset
    from personsearch.evaluation.comparison import compare, compare_saved
    from personsearch.evaluation.files import SavedDetections, load_detections, save_detections
    from personsearch.loading import load

    dataset = open_dataset(data)
    names = protocol or list(dataset.protocols)[:1]
    options: dict[str, Any] = {
        "split": split,
        "score_thresholds": tuple(score_threshold or [0.5]),
        "convention": convention,
        "context": _pair(context) if context else None,
    }
    if model.suffix == ".npz":
        saved = load_detections(model)
        if confidence_weighted is not None:
            saved = replace(saved, confidence_weighted=confidence_weighted)
        elif saved.confidence_weighted is None:
            echo(
                f"{model}: does not say whether similarities are weighted by scores; they are not. "
                "Choose with --confidence-weighted or --no-confidence-weighted",
                err=True,
            )
        compared = compare_saved(saved, dataset, names, **options)
    else:
        options |= {"confidence_weighted": confidence_weighted, "bounds": bounds}
        loaded = load(model, check_device(device))
        with StepProgress() as progress:
            compared = compare(loaded, dataset, names, progress=progress, **options)
    if save is not None:
        saved = SavedDetections(
            compared.found, compared.queries, compared.confidence_weighted, compared.metric
        )
        save_detections(save, saved)
    if per_query is not None:
        _write_queries(per_query, compared, dataset)
    if json_output:
        print_json(as_json(compared, dataset), indent=1)
    else:
        _print(compared, dataset)


def _pair(text: str) -> tuple[int, int]:
    k1, _, k2 = text.partition(",")
    if not (k1.isdigit() and k2.isdigit() and int(k1) and int(k2)):
        raise typer.BadParameter(
            f"{text!r}, expected two numbers such as 30,4", param_hint="--context"
        )
    return int(k1), int(k2)


def as_json(compared: "Comparison", dataset: "Dataset") -> dict[str, Any]:
    """Return what was measured as plain lists and numbers."""
    return {
        "data": dataset.name,
        "metric": compared.metric,
        "detection": [
            {
                "score_threshold": least,
                "average_precision": one.average_precision,
                "recall": one.recall,
            }
            for least, one in compared.detection.items()
        ],
        "search": [
            {
                "protocol": row.protocol,
                "embeddings": row.embeddings,
                "boxes": row.boxes,
                **_means(row.search),
                "queries": row.search.num_queries,
                "skipped": row.search.num_skipped,
                "score_threshold": row.search.score_threshold,
                "confidence_weighted": row.confidence_weighted,
                "other_weighting": row.other and _means(row.other),
            }
            for row in compared.rows
        ],
        "seconds": dict(compared.seconds),
    }


def _means(result: "SearchResult") -> dict[str, Any]:
    return {"mean_ap": result.mean_ap, "top_k": {str(k): v for k, v in result.top_k.items()}}


def _print(compared: "Comparison", dataset: "Dataset") -> None:
    from personsearch.plots import tables

    made = (tables.detection_table, tables.search_table, tables.published_table)
    tables.print_tables(*(make(compared, dataset.name) for make in made))
    if compared.metric != "cosine":
        echo(
            f"Ranked by {compared.metric} distance. A store of this model ranks by the cosine of "
            "its embeddings, whose order can differ."
        )


def _write_queries(path: Path, compared: "Comparison", dataset: "Dataset") -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = ["protocol", "embeddings", "boxes", "query", "scene", "id", "ap"]
        writer.writerow([*names, "ap_other_weighting"])
        for row in compared.rows:
            queries = dataset.protocol(row.protocol).queries
            scores = row.search.average_precisions.tolist()
            others = row.other.average_precisions.tolist() if row.other else [""] * len(scores)
            of_row = [row.protocol, row.embeddings, row.boxes]
            for index, (query, *aps) in enumerate(zip(queries, scores, others, strict=True)):
                writer.writerow([*of_row, index, query.scene, query.id, *aps])
