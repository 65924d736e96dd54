/* Compiled against the installed Mosquitto headers by build.rs: a layout of ours that differs from theirs ends the build. */
#include <stddef.h>
#include <stdio.h>
/* 2.1 warns that two of these names are old ones; releases before have no others. */
#pragma GCC diagnostic ignored "-Wcpp"
#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include "mosquitto_abi.h"

#define SAME_SIZE(ours, theirs) _Static_assert(sizeof(struct ours) == sizeof(struct theirs), "size of " #theirs)
#define SAME_FIELD(ours, theirs, field) \
	_Static_assert(offsetof(struct ours, field) == offsetof(struct theirs, field), "place of " #theirs "." #field); \
	_Static_assert(sizeof(((struct ours *)0)->field) == sizeof(((struct theirs *)0)->field), "size of " #theirs "." #field)

SAME_SIZE(midge_opt, mosquitto_opt);
SAME_FIELD(midge_opt, mosquitto_opt, key);
SAME_FIELD(midge_opt, mosquitto_opt, value);

SAME_SIZE(midge_evt_reload, mosquitto_evt_reload);
SAME_FIELD(midge_evt_reload, mosquitto_evt_reload, options);
SAME_FIELD(midge_evt_reload, mosquitto_evt_reload, option_count);

SAME_SIZE(midge_evt_acl_check, mosquitto_evt_acl_check);
SAME_FIELD(midge_evt_acl_check, mosquitto_evt_acl_check, client);
SAME_FIELD(midge_evt_acl_check, mosquitto_evt_acl_check, topic);
SAME_FIELD(midge_evt_acl_check, mosquitto_evt_acl_check, payload);
SAME_FIELD(midge_evt_acl_check, mosquitto_evt_acl_check, access);
SAME_FIELD(midge_evt_acl_check, mosquitto_evt_acl_check, payloadlen);
SAME_FIELD(midge_evt_acl_check, mosquitto_evt_acl_check, qos);
SAME_FIELD(midge_evt_acl_check, mosquitto_evt_acl_check, retain);

SAME_SIZE(midge_evt_basic_auth, mosquitto_evt_basic_auth);
SAME_FIELD(midge_evt_basic_auth, mosquitto_evt_basic_auth, client);
SAME_FIELD(midge_evt_basic_auth, mosquitto_evt_basic_auth, username);
SAME_FIELD(midge_evt_basic_auth, mosquitto_evt_basic_auth, password);

SAME_SIZE(midge_evt_psk_key, mosquitto_evt_psk_key);
SAME_FIELD(midge_evt_psk_key, mosquitto_evt_psk_key, identity);
SAME_FIELD(midge_evt_psk_key, mosquitto_evt_psk_key, key);
SAME_FIELD(midge_evt_psk_key, mosquitto_evt_psk_key, max_key_len);

SAME_SIZE(midge_evt_extended_auth, mosquitto_evt_extended_auth);
SAME_FIELD(midge_evt_extended_auth, mosquitto_evt_extended_auth, client);
SAME_FIELD(midge_evt_extended_auth, mosquitto_evt_extended_auth, data_in);
SAME_FIELD(midge_evt_extended_auth, mosquitto_evt_extended_auth, data_out);
SAME_FIELD(midge_evt_extended_auth, mosquitto_evt_extended_auth, data_in_len);
SAME_FIELD(midge_evt_extended_auth, mosquitto_evt_extended_auth, data_out_len);
SAME_FIELD(midge_evt_extended_auth, mosquitto_evt_extended_auth, auth_method);

SAME_SIZE(midge_evt_control, mosquitto_evt_control);
SAME_FIELD(midge_evt_control, mosquitto_evt_control, topic);
SAME_FIELD(midge_evt_control, mosquitto_evt_control, payload);
SAME_FIELD(midge_evt_control, mosquitto_evt_control, payloadlen);
SAME_FIELD(midge_evt_control, mosquitto_evt_control, retain);

SAME_SIZE(midge_evt_message, mosquitto_evt_message);
SAME_FIELD(midge_evt_message, mosquitto_evt_message, client);
SAME_FIELD(midge_evt_message, mosquitto_evt_message, topic);
SAME_FIELD(midge_evt_message, mosquitto_evt_message, payload);
SAME_FIELD(midge_evt_message, mosquitto_evt_message, payloadlen);
SAME_FIELD(midge_evt_message, mosquitto_evt_message, qos);
SAME_FIELD(midge_evt_message, mosquitto_evt_message, retain);

SAME_SIZE(midge_evt_tick, mosquitto_evt_tick);
SAME_FIELD(midge_evt_tick, mosquitto_evt_tick, now_ns);
SAME_FIELD(midge_evt_tick, mosquitto_evt_tick, now_s);
SAME_FIELD(midge_evt_tick, mosquitto_evt_tick, next_s);

SAME_SIZE(midge_evt_disconnect, mosquitto_evt_disconnect);
SAME_FIELD(midge_evt_disconnect, mosquitto_evt_disconnect, client);
SAME_FIELD(midge_evt_disconnect, mosquitto_evt_disconnect, reason);

_Static_assert(MIDGE_EVT_RELOAD == MOSQ_EVT_RELOAD && MIDGE_EVT_ACL_CHECK == MOSQ_EVT_ACL_CHECK, "event numbers");
_Static_assert(MIDGE_EVT_BASIC_AUTH == MOSQ_EVT_BASIC_AUTH && MIDGE_EVT_EXT_AUTH_START == MOSQ_EVT_EXT_AUTH_START, "event numbers");
_Static_assert(MIDGE_EVT_EXT_AUTH_CONTINUE == MOSQ_EVT_EXT_AUTH_CONTINUE && MIDGE_EVT_CONTROL == MOSQ_EVT_CONTROL, "event numbers");
_Static_assert(MIDGE_EVT_MESSAGE == MOSQ_EVT_MESSAGE && MIDGE_EVT_PSK_KEY == MOSQ_EVT_PSK_KEY, "event numbers");
_Static_assert(MIDGE_EVT_TICK == MOSQ_EVT_TICK && MIDGE_EVT_DISCONNECT == MOSQ_EVT_DISCONNECT, "event numbers");
_Static_assert(MIDGE_ACL_READ == MOSQ_ACL_READ && MIDGE_ACL_WRITE == MOSQ_ACL_WRITE, "access values");
_Static_assert(MIDGE_ACL_SUBSCRIBE == MOSQ_ACL_SUBSCRIBE && MIDGE_ACL_UNSUBSCRIBE == MOSQ_ACL_UNSUBSCRIBE, "access values");
_Static_assert(MIDGE_ERR_AUTH == MOSQ_ERR_AUTH && MIDGE_ERR_ACL_DENIED == MOSQ_ERR_ACL_DENIED, "return codes");
_Static_assert(MIDGE_ERR_PLUGIN_DEFER == MOSQ_ERR_PLUGIN_DEFER && MIDGE_ERR_AUTH_CONTINUE == MOSQ_ERR_AUTH_CONTINUE, "return codes");
_Static_assert(MIDGE_LOG_ERR == MOSQ_LOG_ERR && MIDGE_LOG_DEBUG == MOSQ_LOG_DEBUG, "log levels");
