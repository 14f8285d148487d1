"""A table of the user's own: samples as rows of a file."""

from dataclasses import dataclass, field

from pudle.data import PATH, Draw, FloatArray
from pudle.data.tables import OwnRows, draw_from, read_table
from pudle.data.user_files import one_line_errors


@dataclass(frozen=True)
class Array(OwnRows):
    """The rows of a file (.npy, .npz, .csv, .tsv, .parquet), coded in a given dictionary or in one
    learned from other rows.

    Without a dictionary, half of the rows, which the seed chooses, at most 1000, are what
    scikit-learn's MiniBatchDictionaryLearning learns one from, and the other rows are coded. There
    is no generating dictionary. `pudle.sparse_coding` does the same with a data frame.

    Parameters
    ----------
    path : str
        The file: samples as rows. The first line of a CSV file is a header if it holds a text; of
        an .npz file with several arrays, ``observations`` is taken. Parquet needs pyarrow.
    dictionary : str, optional
        A file of the dictionary, atoms as columns.
    n_components : int, optional
        Number of atoms to learn; by default twice the columns, at most 100 and half the rows that
        they are learned from.
    penalty : float, optional
        Weight of the l1 norm; by default a fifth of the median over samples of ``max_j |d_j^T x|``,
        the penalty above which half of the codes are zero.
    n_samples : int, optional
        Number of rows to code; by default all that there are, at most 500.
    standardize : bool
        Whether to subtract each column's mean and divide by its standard deviation. Without it the
        values count as they are: if their means or scales differ much, learned atoms are few and
        alike.
    seed : int
    """

    path: str = field(metadata=PATH)
    dictionary: str | None = field(default=None, metadata=PATH)
    n_components: int | None = None
    penalty: float | None = None
    n_samples: int | None = None
    standardize: bool = False
    seed: int = 0

    name = "array"

    def read(self, atoms: FloatArray | None) -> Draw:
        """Read the file, and draw from its rows by the stream of the seed; without atoms a
        dictionary is learned.
        """
        values = read_table(self.path)
        with one_line_errors(f"path={self.path!r}:"):
            return draw_from(
                values,
                self.generator(),
                atoms,
                self.n_components,
                self.n_samples,
                self.standardize,
            )
