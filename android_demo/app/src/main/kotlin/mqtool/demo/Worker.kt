package mqtool.demo

import java.util.concurrent.Executor
import java.util.concurrent.atomic.AtomicBoolean

/** Thrown inside work that was cancelled. */
class Cancelled : RuntimeException("cancelled")

/**
 * Runs one piece of work after the other, away from the main thread.
 *
 * @param background one thread.
 * @param main the main thread.
 */
class Worker(private val background: Executor, private val main: Executor) {
    /** A piece of work; [check] throws [Cancelled] after [cancel]. */
    class Task {
        val cancelled = AtomicBoolean()

        fun cancel() = cancelled.set(true)

        fun check() {
            if (cancelled.get()) throw Cancelled()
        }
    }

    /**
     * Begin work.
     *
     * @param work on the background thread.
     * @param onEnd on the main thread: the error that ended it, or null.
     */
    fun start(work: (Task) -> Unit, onEnd: (Throwable?) -> Unit): Task {
        val task = Task()
        background.execute {
            val error = try {
                task.check()
                work(task)
                null
            } catch (error: Exception) {
                error
            } catch (error: OutOfMemoryError) {
                error
            }
            main.execute { onEnd(error) }
        }
        return task
    }

    /** On the main thread, soon. */
    fun post(action: () -> Unit) = main.execute(action)
}
