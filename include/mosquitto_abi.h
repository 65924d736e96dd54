/* Midge's own description of what Mosquitto 1.5 to 2.1 and a plugin exchange.
 *
 * It declares only what the plugin touches, with the layouts that all of 2.0.8 to 2.1 share; see docs/SAFETY.md.
 * build.rs turns it into Rust, and include/abi_check.c compares it with the installed Mosquitto headers where there are any.
 */
#ifndef MIDGE_MOSQUITTO_ABI_H
#define MIDGE_MOSQUITTO_ABI_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* A connected client; only the broker knows what is in it. */
struct mosquitto;
/* A list of MQTT 5 properties; only the broker knows what is in it. */
struct mqtt5__property;
/* The broker's handle of a loaded plugin. */
typedef struct mosquitto_plugin_id_t midge_plugin_id;

typedef struct mosquitto midge_client;
typedef struct mqtt5__property midge_property;

struct midge_opt {
	char *key;
	char *value;
};

/* Version 3 and 4: the message of an ACL check. */
struct midge_acl_msg {
	const char *topic;
	const void *payload;
	long payloadlen;
	int qos;
	bool retain;
};

struct midge_evt_reload {
	void *future;
	struct midge_opt *options;
	int option_count;
	void *future2[4];
};

struct midge_evt_acl_check {
	void *future;
	midge_client *client;
	const char *topic;
	const void *payload;
	midge_property *properties;
	int access;
	uint32_t payloadlen;
	uint8_t qos;
	bool retain;
	void *future2[4];
};

struct midge_evt_basic_auth {
	void *future;
	midge_client *client;
	char *username;
	char *password;
	void *future2[4];
};

struct midge_evt_psk_key {
	void *future;
	midge_client *client;
	const char *hint;
	const char *identity;
	char *key;
	int max_key_len;
	void *future2[4];
};

struct midge_evt_extended_auth {
	void *future;
	midge_client *client;
	const void *data_in;
	void *data_out;
	uint16_t data_in_len;
	uint16_t data_out_len;
	const char *auth_method;
	void *future2[3];
};

struct midge_evt_control {
	void *future;
	midge_client *client;
	const char *topic;
	const void *payload;
	const midge_property *properties;
	char *reason_string;
	uint32_t payloadlen;
	uint8_t qos;
	uint8_t reason_code;
	bool retain;
	void *future2[4];
};

struct midge_evt_message {
	void *future;
	midge_client *client;
	char *topic;
	void *payload;
	midge_property *properties;
	char *reason_string;
	uint32_t payloadlen;
	uint8_t qos;
	uint8_t reason_code;
	bool retain;
	void *future2[4];
};

/* The last two fields only have a meaning from 2.1; 2.0 passes zeros and reads nothing back. */
struct midge_evt_tick {
	void *future;
	long now_ns;
	long next_ms;
	time_t now_s;
	time_t next_s;
	void *future2[4];
};

struct midge_evt_disconnect {
	void *future;
	midge_client *client;
	int reason;
	void *future2[4];
};

/* 2.1 only. */
struct midge_evt_connect {
	void *future;
	midge_client *client;
	void *future2[4];
};

/* 2.1 only. */
struct midge_subscription {
	char *clientid;
	char *topic_filter;
	midge_property *properties;
	uint32_t identifier;
	uint8_t options;
	uint8_t padding[3];
	void *future2[8];
};

/* 2.1 only. */
struct midge_evt_subscribe {
	void *future;
	midge_client *client;
	struct midge_subscription data;
	void *future2[4];
};

enum midge_event {
	MIDGE_EVT_RELOAD = 1,
	MIDGE_EVT_ACL_CHECK = 2,
	MIDGE_EVT_BASIC_AUTH = 3,
	MIDGE_EVT_EXT_AUTH_START = 4,
	MIDGE_EVT_EXT_AUTH_CONTINUE = 5,
	MIDGE_EVT_CONTROL = 6,
	MIDGE_EVT_MESSAGE = 7,
	MIDGE_EVT_PSK_KEY = 8,
	MIDGE_EVT_TICK = 9,
	MIDGE_EVT_DISCONNECT = 10,
	MIDGE_EVT_CONNECT = 11,
	MIDGE_EVT_SUBSCRIBE = 12,
	MIDGE_EVT_UNSUBSCRIBE = 13,
	MIDGE_EVT_MESSAGE_OUT = 27,
	MIDGE_EVT_CLIENT_OFFLINE = 28,
};

enum midge_access {
	MIDGE_ACL_READ = 1,
	MIDGE_ACL_WRITE = 2,
	MIDGE_ACL_SUBSCRIBE = 4,
	MIDGE_ACL_UNSUBSCRIBE = 8,
};

enum midge_log {
	MIDGE_LOG_INFO = 1,
	MIDGE_LOG_NOTICE = 2,
	MIDGE_LOG_WARNING = 4,
	MIDGE_LOG_ERR = 8,
	MIDGE_LOG_DEBUG = 16,
};

enum midge_err {
	MIDGE_ERR_AUTH_DELAYED = -5,
	MIDGE_ERR_AUTH_CONTINUE = -4,
	MIDGE_ERR_SUB_EXISTS = -2,
	MIDGE_ERR_SUCCESS = 0,
	MIDGE_ERR_INVAL = 3,
	MIDGE_ERR_NOT_FOUND = 6,
	MIDGE_ERR_NOT_SUPPORTED = 10,
	MIDGE_ERR_AUTH = 11,
	MIDGE_ERR_ACL_DENIED = 12,
	MIDGE_ERR_UNKNOWN = 13,
	MIDGE_ERR_PLUGIN_DEFER = 17,
	MIDGE_ERR_ALREADY_EXISTS = 31,
	/* From 2.1: sent to MQTT 5 clients as they are. */
	MIDGE_ERR_NOT_AUTHORIZED_V5 = 135,
	MIDGE_ERR_SERVER_UNAVAILABLE = 136,
	MIDGE_ERR_SERVER_BUSY = 137,
	MIDGE_ERR_BANNED = 138,
};

typedef int (*midge_callback)(int event, void *event_data, void *userdata);

#endif
