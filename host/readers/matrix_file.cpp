#include "readers/matrix_file.hpp"
