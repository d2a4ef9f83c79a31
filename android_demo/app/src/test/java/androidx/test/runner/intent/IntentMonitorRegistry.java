package androidx.test.runner.intent;

/** Stands in for the class of androidx.test; see README.md. */
public final class IntentMonitorRegistry {
    private IntentMonitorRegistry() {}

    public static void registerInstance(IntentMonitor registered) {}
}
