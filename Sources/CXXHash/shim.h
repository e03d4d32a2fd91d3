#pragma once

/* libxxhash's API. A system-library target needs a header of its own to name libxxhash's. */
#include <xxhash.h>
