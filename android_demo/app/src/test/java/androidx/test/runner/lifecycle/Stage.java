package androidx.test.runner.lifecycle;

/** Stands in for the class of androidx.test; see README.md. */
public enum Stage {
    PRE_ON_CREATE, CREATED, STARTED, RESUMED, PAUSED, STOPPED, RESTARTED, DESTROYED
}
