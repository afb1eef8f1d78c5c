"""`python -m saeft_ray`: lists the doors."""

DOORS = {
    "sweep": "runs a sweep file to its report, or what is left of it; --plan shows what would run",
    "preflight": "tries all that a sweep needs, and estimates time and bytes",
    "status": "says how far a sweep is, from its storage alone",
    "report": "writes the report of a sweep, or of anyone's table of numbers",
    "results": "answers SQL on the rows of a sweep",
    "features": "finds which features fine-tuning added and removed",
    "trial": "replays one trial and compares its rows",
    "evaluate": "scores stored models on new images",
    "compare": "puts two sweeps side by side",
    "storage": "lists the sweeps of a storage, their sizes, and removes what nothing names",
    "export": "writes a tuned model as open_clip loads it",
    "data": "makes tar shards of folders of images",
    "slurm": "runs a sweep in a Slurm job (cluster/slurm.sbatch)",
    "config": "prints all settings of a sweep file",
}

if __name__ == "__main__":
    for door, about in DOORS.items():
        print(f"python -m saeft_ray.{door:<10} {about}")
