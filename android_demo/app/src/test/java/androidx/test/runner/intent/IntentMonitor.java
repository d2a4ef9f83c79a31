package androidx.test.runner.intent;

/** Stands in for the class of androidx.test; see README.md. */
public interface IntentMonitor {}
