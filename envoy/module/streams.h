// Streams that are open for long: WebSockets, server-sent events, gRPC. Their tokens
// were checked when they began. The replica hears of each, and names those whose
// token has been revoked since. These are reset.
//
// A worker adds and removes its streams. The thread of the source reports them to the
// replica every 50 ms. So a stream that ends sooner, such as a short call of gRPC, costs
// no message. After a replica has restarted, the thread reports all of them again.
//
// # Streams that wait
//
// A request may ask for a stream while ext_authz still decides about it. Envoy does not
// tell the module about the decision. So the thread asks the stream's worker, which
// looks at the metadata of ext_authz. A stream is reported only after it was let in:
// the replica would end the stream of a revoked token before ext_authz can deny it.
// Streams that wait take at most a quarter of the places, because clients without a
// good token can make them.
#pragma once

#include "abi.h"
#include "table.h"

#include <stdbool.h>

enum {
  MAX_STREAMS = 1 << 16,          // of a source
  MAX_STREAM_BYTES = 64 << 20,    // of their tokens
  MAX_WAITING = MAX_STREAMS / 4,
  MAX_WAITING_BYTES = MAX_STREAM_BYTES / 4,
};

// ASK is the event by which the thread asks whether a stream was let in. Every other
// event is the number of a stream that must end.
enum { ASK = 0 };

typedef struct stream stream;
typedef struct streams streams;

// streams_new returns an empty set, or NULL if there is not enough memory.
streams *streams_new(void);

// streams_add adds the stream of a filter. let_in says that the request was allowed.
// The texts must live until streams_remove. It returns NULL if there are too many
// streams. It owns the scheduler if it returns a stream.
stream *streams_add(streams *s, text policy, text token, void *scheduler, bool let_in);

// streams_let_in notes that the request was allowed, if that is not known yet.
void streams_let_in(streams *s, stream *one);
void streams_remove(streams *s, stream *one);

// streams_ask asks the workers about streams that wait. The thread calls it every 50 ms.
void streams_ask(streams *s);

// streams_report_all makes the next reports name every stream again.
void streams_report_all(streams *s);

// streams_report sends reports until there are none, or the socket is full. It
// returns false if the socket has failed.
bool streams_report(streams *s, int socket);

// streams_end resets the stream with this number, if it is open.
void streams_end(streams *s, uint64_t number);
