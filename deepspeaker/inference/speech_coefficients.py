import numpy as np

MEANS = np.zeros(18); SCALES = np.ones(18); COEFFICIENTS = np.zeros(190)
