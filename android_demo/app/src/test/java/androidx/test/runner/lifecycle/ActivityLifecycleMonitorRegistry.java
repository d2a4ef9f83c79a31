package androidx.test.runner.lifecycle;

/** Stands in for the class of androidx.test; see README.md. */
public final class ActivityLifecycleMonitorRegistry {
    private static ActivityLifecycleMonitor instance;

    private ActivityLifecycleMonitorRegistry() {}

    public static ActivityLifecycleMonitor getInstance() {
        return instance;
    }

    public static void registerInstance(ActivityLifecycleMonitor registered) {
        instance = registered;
    }
}
