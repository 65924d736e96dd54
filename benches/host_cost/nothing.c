/* A plugin that lets everybody do everything: what Mosquitto spends on having one.
 * It is called for the same events as Midge. */

#include <stddef.h>

#include "../../include/mosquitto_abi.h"

int mosquitto_callback_register(midge_plugin_id *identifier, int event, int (*callback)(int, void *, void *), const void *data, void *userdata);

static int allow(int event, void *data, void *userdata)
{
	(void)event;
	(void)data;
	(void)userdata;
	return 0;
}

int mosquitto_plugin_version(int count, const int *versions)
{
	(void)versions;
	return count > 0 ? 5 : -1;
}

int mosquitto_plugin_init(midge_plugin_id *identifier, void **user_data, void *options, int option_count)
{
	static const int events[] = {MIDGE_EVT_ACL_CHECK, MIDGE_EVT_BASIC_AUTH, MIDGE_EVT_MESSAGE};
	(void)user_data;
	(void)options;
	(void)option_count;
	for (size_t n = 0; n < sizeof events / sizeof *events; n++) {
		int code = mosquitto_callback_register(identifier, events[n], allow, NULL, NULL);
		if (code != 0) {
			return code;
		}
	}
	return 0;
}

int mosquitto_plugin_cleanup(void *user_data, void *options, int option_count)
{
	(void)user_data;
	(void)options;
	(void)option_count;
	return 0;
}
