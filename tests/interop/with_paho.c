/* Paho for C: the synchronous client with versions 3.1, 3.1.1 and 5 over TCP, WebSocket, TLS and both.
 *
 * usage: with_paho TCP WS TLS WSS CAFILE, with ports on loopback; linked with -lpaho-mqtt3cs
 */

#include <MQTTClient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE 20000

static void check(int right, const char *what, const char *uri, int version)
{
    if (!right) {
        fprintf(stderr, "%s: %s, version %d\n", what, uri, version);
        exit(1);
    }
}

static void pass(const char *uri, int version, const char *cafile)
{
    MQTTClient client;
    MQTTClient_createOptions create = MQTTClient_createOptions_initializer;
    MQTTClient_connectOptions v5 = MQTTClient_connectOptions_initializer5;
    MQTTClient_connectOptions older = MQTTClient_connectOptions_initializer;
    MQTTClient_SSLOptions ssl = MQTTClient_SSLOptions_initializer;
    MQTTClient_connectOptions *options = version == MQTTVERSION_5 ? &v5 : &older;
    char topic[64];

    create.MQTTVersion = version;
    check(MQTTClient_createWithOptions(&client, uri, "paho-c", MQTTCLIENT_PERSISTENCE_NONE, NULL, &create) == 0, "create", uri, version);
    ssl.trustStore = cafile;
    ssl.verify = 1;
    options->ssl = strstr(uri, "ssl") || strstr(uri, "wss") ? &ssl : NULL;
    options->MQTTVersion = version;
    if (version == MQTTVERSION_5) {
        MQTTResponse response = MQTTClient_connect5(client, options, NULL, NULL);
        check(response.reasonCode == MQTTREASONCODE_SUCCESS, "connect", uri, version);
        MQTTResponse_free(response);
        response = MQTTClient_subscribe5(client, "paho-c/#", 2, NULL, NULL);
        check(response.reasonCode == MQTTREASONCODE_GRANTED_QOS_2, "subscribe", uri, version);
        MQTTResponse_free(response);
    } else {
        check(MQTTClient_connect(client, options) == MQTTCLIENT_SUCCESS, "connect", uri, version);
        check(MQTTClient_subscribe(client, "paho-c/#", 2) == MQTTCLIENT_SUCCESS, "subscribe", uri, version);
    }
    for (int qos = 0; qos <= 2; qos++) {
        MQTTClient_message message = MQTTClient_message_initializer, *got = NULL;
        MQTTClient_deliveryToken token = 0;
        char *from = NULL;
        int length = 0;
        snprintf(topic, sizeof topic, "paho-c/%d/%d", version, qos);
        message.payload = "hello";
        message.payloadlen = 5;
        message.qos = qos;
        if (version == MQTTVERSION_5) {
            MQTTResponse response = MQTTClient_publishMessage5(client, topic, &message, &token);
            check(response.reasonCode == MQTTREASONCODE_SUCCESS, "publish", uri, version);
            MQTTResponse_free(response);
        } else {
            check(MQTTClient_publishMessage(client, topic, &message, &token) == MQTTCLIENT_SUCCESS, "publish", uri, version);
        }
        check(MQTTClient_receive(client, &from, &length, &got, PATIENCE) == MQTTCLIENT_SUCCESS && got, "receive", uri, version);
        check(strcmp(from, topic) == 0 && got->payloadlen == 5 && got->qos == qos, "message", uri, version);
        MQTTClient_freeMessage(&got);
        MQTTClient_free(from);
        check(qos == 0 || MQTTClient_waitForCompletion(client, token, PATIENCE) == 0, "completion", uri, version);
    }
    if (version == MQTTVERSION_5) {
        check(MQTTClient_disconnect5(client, PATIENCE, MQTTREASONCODE_SUCCESS, NULL) == 0, "disconnect", uri, version);
    } else {
        check(MQTTClient_disconnect(client, PATIENCE) == MQTTCLIENT_SUCCESS, "disconnect", uri, version);
    }
    MQTTClient_destroy(&client);
}

int main(int argc, char **argv)
{
    static const char *schemes[] = {"tcp", "ws", "ssl", "wss"};
    static const int versions[] = {MQTTVERSION_3_1, MQTTVERSION_3_1_1, MQTTVERSION_5};
    MQTTClient_init_options init = MQTTClient_init_options_initializer;

    if (argc != 6) {
        return 2;
    }
    init.do_openssl_init = 1;
    MQTTClient_global_init(&init);
    for (int scheme = 0; scheme < 4; scheme++) {
        char uri[64];
        snprintf(uri, sizeof uri, "%s://127.0.0.1:%s%s", schemes[scheme], argv[scheme + 1], scheme % 2 ? "/mqtt" : "");
        for (int version = 0; version < 3; version++) {
            pass(uri, versions[version], argv[5]);
        }
        printf("%s done\n", schemes[scheme]);
    }
    return 0;
}
