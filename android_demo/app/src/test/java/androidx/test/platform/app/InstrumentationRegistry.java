package androidx.test.platform.app;

import android.app.Instrumentation;
import android.os.Bundle;

/** Stands in for the class of androidx.test; see README.md. */
public final class InstrumentationRegistry {
    private static Instrumentation instrumentation;

    private InstrumentationRegistry() {}

    public static Instrumentation getInstrumentation() {
        if (instrumentation == null) throw new IllegalStateException("no instrumentation");
        return instrumentation;
    }

    public static void registerInstance(Instrumentation registered, Bundle arguments) {
        instrumentation = registered;
    }
}
