import com.google.gson.JsonElement;
import com.microsoft.azure.sdk.iot.device.ClientOptions;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.Message;
import com.microsoft.azure.sdk.iot.device.exceptions.IotHubClientException;
import com.microsoft.azure.sdk.iot.device.twin.DirectMethodResponse;
import com.microsoft.azure.sdk.iot.device.twin.TwinCollection;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubNotFoundException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubUnauthorizedException;
import com.microsoft.azure.sdk.iot.service.jobs.DirectMethodsJobOptions;
import com.microsoft.azure.sdk.iot.service.jobs.ScheduledJob;
import com.microsoft.azure.sdk.iot.service.jobs.ScheduledJobStatus;
import com.microsoft.azure.sdk.iot.service.jobs.ScheduledJobsClient;
import com.microsoft.azure.sdk.iot.service.methods.DirectMethodRequestOptions;
import com.microsoft.azure.sdk.iot.service.methods.DirectMethodsClient;
import com.microsoft.azure.sdk.iot.service.query.QueryClient;
import com.microsoft.azure.sdk.iot.service.query.QueryPageOptions;
import com.microsoft.azure.sdk.iot.service.query.TwinQueryResponse;
import com.microsoft.azure.sdk.iot.service.registry.Device;
import com.microsoft.azure.sdk.iot.service.registry.Module;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import com.microsoft.azure.sdk.iot.service.twin.Twin;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import java.io.FileInputStream;
import java.io.InputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Date;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Microsoft's Java clients against the hub that the environment names, on the ports of every hub. */
public final class Sdk {
    interface Case { void run() throws Exception; }

    static final String HUB = System.getenv("HUB_CONNECTION_STRING");
    static final Object[] EVERY_KIND = {"text", "", 42, 42.5, 0, true, false, new Object[] {1, "two"}, Map.of("a", 1), Map.of()};
    static SSLContext trust;

    public static void main(String[] args) throws Exception {
        trust = trustOf(System.getenv("HUB_CA_FILE"));
        HttpsURLConnection.setDefaultSSLSocketFactory(trust.getSocketFactory());
        Map<String, Case> cases = new LinkedHashMap<>();
        cases.put("life of a device", Sdk::lifeOfADevice);
        cases.put("modules", Sdk::modules);
        cases.put("twins", Sdk::twins);
        cases.put("pages", Sdk::pages);
        cases.put("methods", Sdk::methods);
        cases.put("nobody is there", Sdk::nobodyIsThere);
        cases.put("a wrong key", Sdk::aWrongKey);
        cases.put("a job", Sdk::aJob);
        for (IotHubClientProtocol protocol : new IotHubClientProtocol[] {IotHubClientProtocol.MQTT, IotHubClientProtocol.MQTT_WS}) {
            cases.put("device over " + protocol + ", methods", () -> deviceMethods(protocol));
            cases.put("device over " + protocol + ", twin", () -> deviceTwin(protocol));
            cases.put("device over " + protocol + ", telemetry", () -> deviceTelemetry(protocol));
            cases.put("device over " + protocol + ", a wrong key", () -> deviceWrongKey(protocol));
        }
        int failed = 0;
        for (Map.Entry<String, Case> c : cases.entrySet()) {
            try {
                c.getValue().run();
            } catch (Throwable e) {
                failed++;
                System.out.println("FAILED: " + c.getKey());
                e.printStackTrace(System.out);
            }
        }
        System.out.println("Ran " + cases.size() + " tests");
        System.out.println(failed == 0 ? "OK" : failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }

    static SSLContext trustOf(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream in = new FileInputStream(file)) {
            store.setCertificateEntry("hub", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        factory.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, factory.getTrustManagers(), null);
        return context;
    }

    static void same(String what, Object got, Object want) {
        if (!Objects.equals(got, want)) {
            throw new AssertionError(what + ": " + got + ", want " + want);
        }
    }

    static <E extends Throwable> E fails(Class<E> kind, Case c) throws Exception {
        try {
            c.run();
        } catch (Throwable e) {
            if (kind.isInstance(e)) {
                return kind.cast(e);
            }
            throw new AssertionError("want a " + kind.getSimpleName(), e);
        }
        throw new AssertionError("want a " + kind.getSimpleName() + ", and nothing failed");
    }

    static JsonElement json(Object value) {
        return new com.google.gson.Gson().toJsonTree(value);
    }

    // ---- services ----

    static void lifeOfADevice() throws Exception {
        RegistryClient registry = new RegistryClient(HUB);
        Device made = registry.addDevice(new Device("java-life"));
        same("key", registry.getDevice("java-life").getPrimaryKey(), made.getPrimaryKey()); // the client makes it
        same("twice", fails(IotHubException.class, () -> registry.addDevice(new Device("java-life"))).getErrorCodeDescription().name(), "Conflict"); // what the client makes of 409
        Device read = registry.getDevice("java-life");
        same("etag", read.getETag(), made.getETag());
        read.setStatus(com.microsoft.azure.sdk.iot.service.registry.DeviceStatus.Disabled);
        same("status", registry.updateDevice(read).getStatus(), com.microsoft.azure.sdk.iot.service.registry.DeviceStatus.Disabled);
        registry.removeDevice("java-life");
        fails(IotHubNotFoundException.class, () -> registry.getDevice("java-life"));
        if (registry.getStatistics().getTotalDeviceCount() < 28) {
            throw new AssertionError("statistics count too few devices");
        }
    }

    static void modules() throws Exception {
        RegistryClient registry = new RegistryClient(HUB);
        registry.addDevice(new Device("java-gateway"));
        registry.addModule(new Module("java-gateway", "camera"));
        same("modules", registry.getModulesOnDevice("java-gateway").size(), 1);
        TwinClient twins = new TwinClient(HUB);
        Twin change = new Twin("java-gateway", "camera");
        change.getDesiredProperties().put("zoom", 2);
        twins.patch(change);
        same("zoom", ((Number) twins.get("java-gateway", "camera").getDesiredProperties().get("zoom")).intValue(), 2);
        registry.removeModule("java-gateway", "camera");
        fails(IotHubNotFoundException.class, () -> registry.getModule("java-gateway", "camera"));
    }

    static void twins() throws Exception {
        TwinClient twins = new TwinClient(HUB);
        Twin before = twins.get("door-016");
        same("locked", before.getDesiredProperties().get("locked"), true);
        Twin change = new Twin("door-016");
        change.getDesiredProperties().put("locked", null);
        change.getDesiredProperties().put("text", "Tür · 鍵");
        change.getTags().put("name", "x");
        Twin after = twins.patch(change, quoted(before)); // as it goes into If-Match
        same("locked", after.getDesiredProperties().containsKey("locked"), false);
        same("text", after.getDesiredProperties().get("text"), "Tür · 鍵");
        same("tag", after.getTags().get("name"), "x");
        IotHubException stale = fails(IotHubException.class, () -> twins.patch(change, quoted(before)));
        same("stale", stale.getErrorCodeDescription().name(), "PreconditionFailed");
        Twin whole = new Twin("door-016");
        whole.getTags().put("only", 1);
        same("tags", twins.replace(whole, quoted(after)).getTags().size(), 1);
    }

    static String quoted(Twin twin) {
        return '"' + twin.getETag() + '"';
    }

    static void pages() throws Exception {
        TwinQueryResponse rows = new QueryClient(HUB).queryTwins(
            "SELECT * FROM devices WHERE STARTSWITH(deviceId, 'door-')", QueryPageOptions.builder().pageSize(10).build());
        Set<String> seen = new HashSet<>();
        while (rows.hasNext()) {
            seen.add(rows.next().getDeviceId());
        }
        same("devices", seen.size(), 25);
    }

    static com.microsoft.azure.sdk.iot.service.methods.DirectMethodResponse call(String id, String method, Object payload) throws Exception {
        return new DirectMethodsClient(HUB).invoke(id, method, DirectMethodRequestOptions.builder()
            .payload(payload).methodResponseTimeoutSeconds(20).methodConnectTimeoutSeconds(20).build());
    }

    static void methods() throws Exception {
        for (Object payload : EVERY_KIND) {
            same("status", call("door-017", "echo", payload).getStatus(), 200);
            same("answer", call("door-017", "echo", payload).getPayloadAsJsonElement(), json(payload));
        }
        same("status", call("door-017", "refuse", null).getStatus(), 409);
    }

    static void nobodyIsThere() throws Exception {
        for (String id : new String[] {"nobody", "gone"}) {
            fails(IotHubNotFoundException.class, () -> new DirectMethodsClient(HUB).invoke(id, "echo",
                DirectMethodRequestOptions.builder().methodConnectTimeoutSeconds(0).build()));
        }
    }

    static void aWrongKey() throws Exception {
        String wrong = HUB.replaceFirst("SharedAccessKey=.*", "SharedAccessKey=YSB3cm9uZyBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE=");
        fails(IotHubUnauthorizedException.class, () -> new RegistryClient(wrong).getDevice("door-001"));
    }

    static void aJob() throws Exception {
        ScheduledJobsClient jobs = new ScheduledJobsClient(HUB);
        String id = UUID.randomUUID().toString();
        jobs.scheduleDirectMethod(id, "deviceId IN ['door-018', 'door-019']", "lockDoor", new Date(),
            DirectMethodsJobOptions.builder().payload(Map.of("a", 1)).maxExecutionTimeSeconds(60).build());
        ScheduledJob job = jobs.get(id);
        for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(20); job.getJobStatus() != ScheduledJobStatus.completed; job = jobs.get(id)) {
            if (System.nanoTime() > end) {
                throw new AssertionError("the job is " + job.getJobStatus() + " after 20 s");
            }
            Thread.sleep(20);
        }
        same("succeeded", job.getJobStatistics().getSucceededCount(), 2);
    }

    // ---- devices ----

    static DeviceClient device(String id, String key, IotHubClientProtocol protocol) throws Exception {
        return new DeviceClient("HostName=" + System.getenv("HUB_HOST") + ";DeviceId=" + id + ";SharedAccessKey=" + key, protocol,
            ClientOptions.builder().sslContext(trust).build());
    }

    static String register(String name, IotHubClientProtocol protocol) throws Exception {
        return new RegistryClient(HUB).addDevice(new Device(name + "-" + protocol)).getPrimaryKey();
    }

    static void deviceMethods(IotHubClientProtocol protocol) throws Exception {
        DeviceClient client = device("methods-" + protocol, register("methods", protocol), protocol);
        client.open(false);
        try {
            client.subscribeToMethods((name, payload, context) -> new DirectMethodResponse(201, payload.getPayloadAsJsonElement()), null);
            for (Object payload : EVERY_KIND) {
                com.microsoft.azure.sdk.iot.service.methods.DirectMethodResponse answer = call("methods-" + protocol, "echo", payload);
                same("status", answer.getStatus(), 201);
                same("answer", answer.getPayloadAsJsonElement(), json(payload));
            }
        } finally {
            client.close();
        }
    }

    static void deviceTwin(IotHubClientProtocol protocol) throws Exception {
        String id = "twin-" + protocol;
        BlockingQueue<Object> heard = new LinkedBlockingQueue<>();
        DeviceClient client = device(id, register("twin", protocol), protocol);
        client.open(false);
        try {
            client.subscribeToDesiredProperties((twin, context) -> heard.add(twin.getDesiredProperties().get("floor")), null);
            Twin change = new Twin(id);
            change.getDesiredProperties().put("floor", 3);
            new TwinClient(HUB).patch(change);
            same("floor", ((Number) heard.poll(20, TimeUnit.SECONDS)).intValue(), 3);
            same("twin", ((Number) client.getTwin().getDesiredProperties().get("floor")).intValue(), 3);
            TwinCollection report = new TwinCollection();
            report.put("floor", 3);
            same("version", client.updateReportedProperties(report).getVersion(), 2);
            same("reported", ((Number) new TwinClient(HUB).get(id).getReportedProperties().get("floor")).intValue(), 3);
        } finally {
            client.close();
        }
    }

    static void deviceTelemetry(IotHubClientProtocol protocol) throws Exception {
        DeviceClient client = device("telemetry-" + protocol, register("telemetry", protocol), protocol);
        client.open(false);
        try {
            Message message = new Message("{\"temperature\": 21}");
            message.setProperty("alert", "a b/c&d");
            message.setContentType("application/json");
            client.sendEvent(message);
            client.sendEvent(new Message("plain"));
        } finally {
            client.close();
        }
    }

    static void deviceWrongKey(IotHubClientProtocol protocol) throws Exception {
        register("wrong", protocol);
        DeviceClient client = device("wrong-" + protocol, "YSB3cm9uZyBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE=", protocol);
        fails(IotHubClientException.class, () -> client.open(false));
        client.close();
    }
}
