#pragma once

/* libcrypto's SHA-256. OpenSSL 3 wants its EVP functions used instead; these allocate a context and, for
 * each digest, look the algorithm up under a lock, which a page of 4096 bytes is too short for. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

/* MD5, which object stores check bodies by. */
#include <openssl/md5.h>

/* HMAC, and a comparison that takes the same time wherever two codes differ. */
#include <openssl/crypto.h>
#include <openssl/hmac.h>
