// Streams that are open for long: WebSockets, server-sent events, gRPC. Their tokens
// were checked when they began. The replica hears of each, and names those whose
// token has been revoked since. These are reset.
//
// A worker adds and removes its streams. The thread of the source reports them to the
// replica. After a replica has restarted, the thread reports all of them again.
#pragma once

#include "abi.h"
#include "table.h"

#include <stdbool.h>

enum {
  MAX_STREAMS = 1 << 16,          // of a source
  MAX_STREAM_BYTES = 64 << 20,    // of their tokens
};

typedef struct stream stream;
typedef struct streams streams;

// streams_new returns an empty set, or NULL if there is not enough memory. wake is an
// eventfd that is written when there is something to report.
streams *streams_new(int wake);

// streams_add adds the stream of a filter. It returns NULL if there are too many. It
// owns the scheduler if it returns a stream.
stream *streams_add(streams *s, text policy, text token, void *scheduler);
void streams_remove(streams *s, stream *one);

// streams_report_all makes the next reports name every stream again.
void streams_report_all(streams *s);

// streams_report sends reports until there are none, or the socket is full. It
// returns false if the socket has failed.
bool streams_report(streams *s, int socket);

// streams_end resets the stream with this number, if it is open.
void streams_end(streams *s, uint64_t number);
