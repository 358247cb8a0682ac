# What a type checker sees of `__init__.py`, which loads these when they are asked for.
from distill.api import Answers as Answers
from distill.api import Model as Model
from distill.api import distil as distil
from distill.api import load as load

__version__: str
