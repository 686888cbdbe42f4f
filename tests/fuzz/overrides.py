"""Command lines that people, and scripts of theirs, could type."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

VALUES = st.one_of(
    st.sampled_from(
        [
            *("", "null", "???", "true", "false", "0", "-1", "1", "1.5", "nan", "inf", "-inf"),
            *("1e400", "10000000000000", "2147483648", "-9223372036854775809", "1e-320", "0x10"),
            *("abc", "'a b'", '"', "'", "a,b", "1,2", "[1,2]", "[", "]", "{a:1}", "{", "{a:{b:1}}"),
            *(
                "[null]",
                "[[]]",
                "{}",
                "[]",
                "a:b",
                "a=b",
                "=x",
                "(",
                "a b",
                "\\",
                "\\,",
                "@",
                "$",
                "${",
            ),
            *(
                "${seed}",
                "${nope}",
                "${nope:1}",
                "${x.y.z}",
                "${.}",
                "${..seed}",
                "${hydra:job.name}",
            ),
            *(
                "range(3)",
                "range(0,1000000000)",
                "range(0,1,0)",
                "range(a)",
                "glob(*)",
                "glob(nope*)",
            ),
            *("choice(1,2)", "choice()", "interval(0,1)", "shuffle(1,2)", "sort(2,1)", "tag(x,1)"),
            *("int(3.5)", "float(x)", "bool(2)", "json_str([1])", "nope(1)", "a" * 300, "9" * 5000),
            *(
                "../x",
                "/",
                "a/../../b",
                "-",
                "--",
                "~",
                "é",
                "\u202e",
                "\x1b[2J",
                "\x07",
                "\t",
                "\n",
                "[/x]",
            ),
            *(
                "identity",
                "fixed",
                "mlp",
                "adam",
                "serial",
                "cpu",
                "all",
                "mnist5k",
                "lower",
                "test/mse",
            ),
            *(
                "stelab.estimators.Nope",
                "nowhere.Nope",
                "os.path",
                "math.pi",
                "builtins.len",
                "...",
                "a..b",
            ),
        ]
    ),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=12).filter(lambda text: "\x00" not in text),
).map(lambda text: "".join(c for c in text if not "\ud800" <= c <= "\udfff"))

KEYS = {
    "train": """
        study seed threads rerun monitor retries on_failure only trial names names.estimator
        estimator estimator._target_ threshold threshold.value model model.bits model.norm
        model.signed model.encoder loss loss.reduction data data.batch_size data.val_size data.limit
        data.seed data.root optimizer optimizer.lr optimizer.betas optimizer.fused scheduler
        trainer trainer.max_epochs trainer.accelerator trainer.devices trainer.precision
        trainer.gradient_clip_val trainer.strategy trainer.log_every_n_steps trainer.profiler
        logger logger.csv logger.csv.path logger.tensorboard callbacks callbacks.code checkpoint
        checkpoint.every_n_steps checkpoint.every_n_minutes sweep experiment debug problem
        hydra/launcher hydra/sweeper hydra.launcher hydra.sweeper hydra.mode hydra.job.name
        hydra.sweeper.n_trials hydra.verbose hydra.nope paths paths.run
    """,
    "status": "study watch hydra.mode hydra.verbose hydra estimator seed",
    "compare": """
        study against metric better by where baseline replicates confidence interval log_scale
        report data data.root estimator seed hydra.mode hydra
    """,
    "export": "study overwrite hydra.mode estimator seed",
    "unpack": "archive hydra.mode hydra estimator seed",
    "tensorboard": "study by where replicates embeddings host port serve estimator hydra.mode",
    "evaluate": "run checkpoint split data data.limit data.batch_size data.root seed hydra.mode",
    "encode": "run checkpoint split images overwrite data data.limit data.batch_size hydra.mode",
    "decode": "run checkpoint codes overwrite data hydra.mode",
    "gradients": """
        study bits seed samples adapt progress run names names.problem estimator problem
        problem.width estimator._target_ threshold hydra/launcher hydra/sweeper hydra.mode
        hydra.sweeper data
    """,
}

FLAGS = (
    *("-m", "--multirun", "--help", "--hlep", "--cfg", "--cfg job", "--cfg nope", "--resolve"),
    *(
        "--cfg job --resolve",
        "--cfg hydra",
        "--cfg all",
        "--info",
        "--info nope",
        "--package model",
    ),
    *("--cfg job --package nope", "--config-dir nope", "--config-name nope", "--config-path nope"),
    *("--hydra-help", "--version", "--experimental-rerun nope", "-x", "--", "-", "--run", "-h"),
)


def keys(command: str) -> st.SearchStrategy[str]:
    """Return keys of a command, and what looks like them."""
    known = st.sampled_from(KEYS[command].split())
    others = st.sampled_from(
        ["", ".", "a..b", "é", "[", "seed seed", "@", "x@y", "a/b", "_target_", "0"]
    )
    return st.one_of(
        known, known, known, known.map(lambda key: key[:-1]), known.map(_nested), others
    )


def _nested(key: str) -> str:
    return f"{key}.x"


def tokens(command: str) -> st.SearchStrategy[str]:
    """Return single overrides, flags and junk."""
    signs = st.sampled_from(["", "", "", "", "+", "++", "~"])
    override = st.builds("{}{}={}".format, signs, keys(command), VALUES)
    return st.one_of(
        override,
        override,
        override,
        st.builds("{}{}".format, signs, keys(command)),
        st.sampled_from(FLAGS),
        VALUES,
    )


def lines(command: str) -> st.SearchStrategy[list[str]]:
    """Return what follows the command: one to three of them."""
    found = st.lists(tokens(command), min_size=1, max_size=3)
    return found.map(lambda words: [part for word in words for part in split(word)])


def split(word: str) -> Sequence[str]:
    """Split a flag from its value."""
    return word.split(" ") if word in FLAGS else [word]
