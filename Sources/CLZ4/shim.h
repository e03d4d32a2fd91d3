#pragma once

/* The LZ4 frame API. A system-library target needs a header of its own to name liblz4's. */
#include <lz4frame.h>
