/*
 * Bytes to requests, by llhttp and a guard of our own around it.
 *
 * The guard (head_scan) finds the end of the head by the one spelling that all servers agree on. Only then the parser
 * gets the head, as a whole, and has to come to the same end. Nothing here knows of sockets.
 */
#pragma once

#include "common/buf.h"
#include "http/server.h"

#include <llhttp.h>

typedef enum HeadScan { HEAD_MORE, HEAD_DONE, HEAD_BAD } HeadScan;

/* Looks for the end of a head that begins at `bytes`. *scanned, 0 at first, is how far it was looked at; with HEAD_DONE
 * the length of the head. */
HeadScan head_scan(const char *bytes, size_t len, size_t *scanned);

/* What a refused request is answered with. */
typedef struct Refusal {
    int status;
    const char *why;
} Refusal;

typedef struct ParsedHead {
    bool complete; /* there is no body */
    bool chunked;
    bool keep_alive;      /* as far as the client is concerned */
    bool http_1_0;        /* which has to be told that the connection stays open */
    bool expect_continue; /* the client waits before it sends the body */
} ParsedHead;

/* Fills in the request (its arena is set) from a head that head_scan() found to be whole, with a NUL behind it. On
 * failure ret_refusal says what to answer; request->method and target are set as far as they were understood. */
NODISCARD bool parse_head(llhttp_t *parser, const char *head, size_t len, const HttpLimits *limits,
                          HttpRequest *request, ParsedHead *ret_head, Refusal *ret_refusal);

/* The progress of a body. */
typedef struct ParsedBody {
    Buf bytes;       /* its ceiling is the limit */
    size_t received; /* on the wire, framing included */
    size_t framing_max;
    bool done;
} ParsedBody;

void parsed_body_init(ParsedBody *body, const HttpLimits *limits);
void parsed_body_fini(ParsedBody *body);
/* *ret_taken: how many of the bytes belong to this request. */
NODISCARD bool parse_body(llhttp_t *parser, const char *bytes, size_t len, ParsedBody *body, size_t *ret_taken,
                          Refusal *ret_refusal);
