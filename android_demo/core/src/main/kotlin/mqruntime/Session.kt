package mqruntime

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession
import java.io.File
import java.nio.ByteBuffer
import java.nio.FloatBuffer
import java.nio.LongBuffer

/** Anything that runs a graph: a [Session], or a wrapper that watches. */
interface Graph {
    /** Run once; outputs by name, for the caller to close. The tensors fed in are not changed. */
    fun run(feeds: Map<String, OnnxTensor>): Outputs
}

/** A run's outputs. Closing frees them, all together. */
class Outputs(private val tensors: Map<String, OnnxTensor>, private val owner: AutoCloseable) :
    AutoCloseable, Map<String, OnnxTensor> by tensors {
    override fun close() = owner.close()
}

/**
 * An onnxruntime session on the CPU.
 *
 * Outputs are onnxruntime's own buffers: a K/V cache can be fed back step after step at the cost of
 * the graph's own Concat.
 *
 * @param path the .onnx file; its external data must lie beside it.
 * @param content the graph itself, in a direct buffer, if it is not a file of its own; `path` then
 *     only names it in errors, and external data is refused.
 * @param threads threads inside an operator; 0 lets onnxruntime choose.
 * @param optimize graph optimization on (all levels) or off.
 * @throws ModelError the file is missing, truncated, corrupt, or uses what onnxruntime lacks.
 */
class Session(
    private val path: File,
    content: ByteBuffer? = null,
    threads: Int = 0,
    optimize: Boolean = true,
) : Graph, AutoCloseable {
    private var session: OrtSession?
    private var running = 0
    private var closing = false

    init {
        if (content == null && !path.isFile) {
            throw ModelError("$path: no such graph; export or pack the model again")
        }
        if (content != null && OnnxFile.hasExternalData(content)) {
            throw ModelError("$path: its data is in another file, which this runtime does not open; use a smaller model")
        }
        session = try {
            OrtSession.SessionOptions().use { options ->
                options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL) // what matters is thrown
                options.setIntraOpNumThreads(threads)
                // It would plan memory for every shape seen, and reserve it beside what the first
                // run has left: for a decoder, whose cache grows, that is a plan a step.
                options.setMemoryPatternOptimization(false)
                options.setOptimizationLevel(
                    if (optimize) OrtSession.SessionOptions.OptLevel.ALL_OPT else OrtSession.SessionOptions.OptLevel.NO_OPT,
                )
                if (content == null) environment.createSession(path.path, options)
                else environment.createSession(content, options)
            }
        } catch (error: OrtException) {
            throw ModelError(
                "$path: onnxruntime ${environment.version} cannot open it (${firstLine(error)}); " +
                    "export or pack the model again",
                error,
            )
        }
    }

    /**
     * Run once.
     *
     * @param feeds one tensor for every graph input.
     * @return every graph output by name, for the caller to close.
     * @throws ModelError the session is closed, an input does not fit, or a node failed.
     */
    override fun run(feeds: Map<String, OnnxTensor>): Outputs {
        val session = begin()
        try {
            val result = session.run(feeds)
            return Outputs(result.associate { (name, value) -> name to value as OnnxTensor }, result)
        } catch (error: OrtException) {
            throw ModelError("$path: running it failed (${firstLine(error)})", error)
        } finally {
            end()
        }
    }

    /** Free the graph's memory, once no other thread runs it; `run` fails from now on. */
    override fun close() {
        synchronized(this) {
            closing = true
            if (running > 0) return
            session?.close()
            session = null
        }
    }

    private fun begin(): OrtSession = synchronized(this) {
        val session = session
        if (session == null || closing) throw ModelError("$path: is closed; open it again")
        running += 1
        session
    }

    private fun end() {
        synchronized(this) { running -= 1 }
        if (closing) close()
    }

    companion object {
        private val environment: OrtEnvironment by lazy { OrtEnvironment.getEnvironment() }

        /** onnxruntime's version. */
        val version: String get() = environment.version

        /** A float32 tensor. */
        fun tensor(values: FloatArray, vararg shape: Long): OnnxTensor =
            OnnxTensor.createTensor(environment, FloatBuffer.wrap(values), shape)

        /** An int64 tensor. */
        fun tensor(values: LongArray, vararg shape: Long): OnnxTensor =
            OnnxTensor.createTensor(environment, LongBuffer.wrap(values), shape)
    }
}

/** A tensor's values. */
internal fun OnnxTensor.floats(): FloatArray {
    val buffer = floatBuffer
    return FloatArray(buffer.remaining()).also(buffer::get)
}

/** The values of a tensor [1, rows, columns]. */
internal fun OnnxTensor.rows(): Array<FloatArray> {
    val (_, rows, columns) = info.shape
    val buffer = floatBuffer
    return Array(rows.toInt()) { FloatArray(columns.toInt()).also(buffer::get) }
}
