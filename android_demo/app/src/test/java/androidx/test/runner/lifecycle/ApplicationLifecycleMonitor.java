package androidx.test.runner.lifecycle;

/** Stands in for the class of androidx.test; see README.md. */
public interface ApplicationLifecycleMonitor {}
