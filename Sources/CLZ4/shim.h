#pragma once

/* liblz4's APIs for blocks and frames. A system-library target needs a header of its own to name
 * liblz4's. */
#include <lz4.h>
#include <lz4frame.h>
#include <lz4hc.h>
