// The part of Envoy's ABI for dynamic modules that this module uses, as Envoy 1.40
// exports it. All callbacks are weak, so an Envoy without one of them still loads the
// module, and the module refuses that Envoy with a message (fits.c).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// text is a piece of memory, without a zero byte behind it.
typedef struct {
  const char *at;
  size_t n;
} text;

// field is a name and a value, such as a header.
typedef struct {
  text name, value;
} field;

#define TEXT(literal) ((text){literal, sizeof(literal) - 1})

enum { REQUEST_HEADER = 0, RESPONSE_HEADER = 2 };
enum { OF_STREAM = 0, OF_ROUTE = 1 }; // sources of metadata
enum { SOURCE_ADDRESS = 24 };         // an attribute
enum { LOG_INFO = 2, LOG_WARN = 3, LOG_ERROR = 4 };
enum { CONTINUE = 0 };
enum { LOCAL_RESET = 0 };

#define WEAK __attribute__((weak))
// HOOK marks a function that Envoy calls.
#define HOOK __attribute__((visibility("default")))
#define ENVOY(name) envoy_dynamic_module_callback_##name

WEAK bool ENVOY(http_get_header)(void *filter, int kind, text name, text *value, size_t index, size_t *count);
WEAK size_t ENVOY(http_get_headers_size)(void *filter, int kind);
WEAK bool ENVOY(http_get_headers)(void *filter, int kind, field *all);
WEAK bool ENVOY(http_add_header)(void *filter, int kind, text name, text value);
WEAK bool ENVOY(http_set_header)(void *filter, int kind, text name, text value);
WEAK void ENVOY(http_set_dynamic_metadata_bool)(void *filter, text space, text name, bool value);
WEAK void ENVOY(http_set_dynamic_metadata_number)(void *filter, text space, text name, double value);
WEAK void ENVOY(http_set_dynamic_metadata_string_batch)(void *filter, text space, const field *all, size_t n);
WEAK bool ENVOY(http_get_metadata_string)(void *filter, int source, text space, text name, text *value);
WEAK bool ENVOY(http_get_metadata_bool)(void *filter, int source, text space, text name, bool *value);
WEAK bool ENVOY(http_filter_get_attribute_string)(void *filter, int attribute, text *value);
WEAK void ENVOY(http_clear_route_cache)(void *filter);
WEAK void *ENVOY(http_filter_scheduler_new)(void *filter);
WEAK void ENVOY(http_filter_scheduler_commit)(void *scheduler, uint64_t event);
WEAK void ENVOY(http_filter_scheduler_delete)(void *scheduler);
WEAK void ENVOY(http_filter_reset_stream)(void *filter, int reason, text details);
WEAK bool ENVOY(is_validation_mode)(void);
WEAK uint32_t ENVOY(get_concurrency)(void);
WEAK void ENVOY(log)(int level, text message);
