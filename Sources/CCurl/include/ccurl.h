#pragma once

#include <stdint.h>

/*
 * What libcurl's header would give. The library is loaded when a remote first needs it, so that building needs
 * nothing of it. All of these are part of its ABI.
 *
 * Source: curl/curl.h and curl/multi.h 7.88.1.
 */

/* CURLoption. */
enum {
  CCURL_OPT_LOW_SPEED_LIMIT = 19,
  CCURL_OPT_LOW_SPEED_TIME = 20,
  CCURL_OPT_SSLVERSION = 32,
  CCURL_OPT_NOBODY = 44,
  CCURL_OPT_UPLOAD = 46,
  CCURL_OPT_SSL_VERIFYPEER = 64,
  CCURL_OPT_MAXCONNECTS = 71,
  CCURL_OPT_SSL_VERIFYHOST = 81,
  CCURL_OPT_HTTP_VERSION = 84,
  CCURL_OPT_BUFFERSIZE = 98,
  CCURL_OPT_NOSIGNAL = 99,
  CCURL_OPT_CONNECTTIMEOUT_MS = 156,
  CCURL_OPT_HTTP_CONTENT_DECODING = 158,
  CCURL_OPT_PROTOCOLS = 181,
  CCURL_OPT_TCP_KEEPALIVE = 213,
  CCURL_OPT_PATH_AS_IS = 234,
  CCURL_OPT_SUPPRESS_CONNECT_HEADERS = 265,
  CCURL_OPT_UPLOAD_BUFFERSIZE = 280,
  CCURL_OPT_HTTP09_ALLOWED = 285,
  CCURL_OPT_WRITEDATA = 10001,
  CCURL_OPT_URL = 10002,
  CCURL_OPT_READDATA = 10009,
  CCURL_OPT_ERRORBUFFER = 10010,
  CCURL_OPT_USERAGENT = 10018,
  CCURL_OPT_HTTPHEADER = 10023,
  CCURL_OPT_HEADERDATA = 10029,
  CCURL_OPT_CUSTOMREQUEST = 10036,
  CCURL_OPT_CAINFO = 10065,
  CCURL_OPT_SEEKDATA = 10168,
  CCURL_OPT_NOPROXY = 10177,
  CCURL_OPT_WRITEFUNCTION = 20011,
  CCURL_OPT_READFUNCTION = 20012,
  CCURL_OPT_HEADERFUNCTION = 20079,
  CCURL_OPT_SEEKFUNCTION = 20167,
  CCURL_OPT_INFILESIZE_LARGE = 30115,
};

/* Values of options: CURL_HTTP_VERSION_1_1, CURL_SSLVERSION_TLSv1_2, CURLPROTO_HTTP and CURLPROTO_HTTPS,
 * CURL_ERROR_SIZE, and CURL_GLOBAL_ALL of curl_global_init. */
enum {
  CCURL_HTTP_VERSION_1_1 = 2,
  CCURL_SSLVERSION_TLS_1_2 = 6,
  CCURL_PROTOCOL_HTTP = 1,
  CCURL_PROTOCOL_HTTPS = 2,
  CCURL_ERROR_BYTE_COUNT = 256,
  CCURL_GLOBAL_ALL = 3,
};

/* What a read function returns to end the transfer, CURL_READFUNC_ABORT. */
enum { CCURL_READ_ABORT = 0x10000000 };

/* CURLcode. */
enum {
  CCURL_OK = 0,
  CCURL_UNSUPPORTED_PROTOCOL = 1,
  CCURL_URL_MALFORMAT = 3,
  CCURL_COULDNT_RESOLVE_PROXY = 5,
  CCURL_COULDNT_RESOLVE_HOST = 6,
  CCURL_COULDNT_CONNECT = 7,
  CCURL_WEIRD_SERVER_REPLY = 8,
  CCURL_PARTIAL_FILE = 18,
  CCURL_WRITE_ERROR = 23,
  CCURL_OUT_OF_MEMORY = 27,
  CCURL_OPERATION_TIMEDOUT = 28,
  CCURL_SSL_CONNECT_ERROR = 35,
  CCURL_ABORTED_BY_CALLBACK = 42,
  CCURL_GOT_NOTHING = 52,
  CCURL_SEND_ERROR = 55,
  CCURL_RECV_ERROR = 56,
  CCURL_SSL_CERTPROBLEM = 58,
  CCURL_SSL_CIPHER = 59,
  CCURL_PEER_FAILED_VERIFICATION = 60,
  CCURL_SEND_FAIL_REWIND = 65,
  CCURL_SSL_CACERT_BADFILE = 77,
  CCURL_SSL_ISSUER_ERROR = 83,
};

/* CURLMSG_DONE. */
enum { CCURL_MESSAGE_DONE = 1 };

/* CURLMsg. */
struct ccurl_message {
  int message;
  void *easy_handle;
  union {
    void *whatever;
    int result;
  } data;
};

/* curl_easy_setopt has variable arguments, which Swift cannot pass. `setopt` is its address. */
int ccurl_set_long(void *setopt, void *handle, int option, long value);
int ccurl_set_offset(void *setopt, void *handle, int option, int64_t value);
int ccurl_set_pointer(void *setopt, void *handle, int option, const void *value);
