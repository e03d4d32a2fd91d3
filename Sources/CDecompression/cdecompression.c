#include "cdecompression.h"
