package androidx.test.runner.lifecycle;

/** Stands in for the class of androidx.test; see README.md. */
public final class ApplicationLifecycleMonitorRegistry {
    private ApplicationLifecycleMonitorRegistry() {}

    public static void registerInstance(ApplicationLifecycleMonitor registered) {}
}
