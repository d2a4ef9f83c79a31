package mqruntime

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession
import ai.onnxruntime.OrtSession.SessionOptions.OptLevel
import ai.onnxruntime.TensorInfo
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.file.Files
import java.nio.FloatBuffer
import java.nio.LongBuffer
import java.util.Locale

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
 * @param path the .onnx file; its external data must lie beside it, under its name and `.data`.
 * @param content the graph itself, in a direct buffer, if it is not a file of its own; `path` then
 *     only names it in errors.
 * @param data its coded external data, `path`'s name and `.data`; null refuses external data of a graph
 *     that is not a file of its own. It is inflated to a temporary file, which is there for as long as
 *     it takes to open it.
 * @param threads threads inside an operator; 0 lets onnxruntime choose.
 * @param optimize graph optimization on (all levels) or off.
 * @param operators which its nodes may be, a `domain::` before those that are not ONNX's own; null for any.
 * @throws ModelError the file is missing, truncated, corrupt, or uses what onnxruntime lacks or `operators`
 *     does not list.
 */
class Session(
    internal val path: File,
    content: ByteBuffer? = null,
    data: CodedStream? = null,
    threads: Int = 0,
    optimize: Boolean = true,
    operators: Set<String>? = null,
) : Graph, AutoCloseable {
    private var session: OrtSession?
    private var running = 0
    private var closing = false

    init {
        if (content == null && !path.isFile) {
            throw ModelError("$path: no such graph; export or pack the model again")
        }
        val known = content ?: mapped()
        checkContents(known, content == null || data != null, operators)
        session = try {
            OrtSession.SessionOptions().use { options ->
                options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL) // what matters is thrown
                options.setIntraOpNumThreads(threads)
                // It would plan memory for every shape seen, and reserve it beside what the first
                // run has left: for a decoder, whose cache grows, that is a plan a step.
                options.setMemoryPatternOptimization(false)
                options.setOptimizationLevel(if (optimize) OptLevel.ALL_OPT else OptLevel.NO_OPT)
                when {
                    data != null -> openInflated(known, data, threads, options)
                    content != null -> environment.createSession(content, options)
                    else -> environment.createSession(path.path, options)
                }
            }
        } catch (error: OrtException) {
            throw ModelError(
                "$path: onnxruntime ${environment.version} cannot open it (${firstLine(error)}); " +
                    "export or pack the model again",
                error,
            )
        }
    }

    private fun mapped(): ByteBuffer = try {
        OnnxFile.map(path)
    } catch (error: IOException) {
        throw ModelError("$path: cannot be read (${firstLine(error)})", error)
    } catch (error: IllegalArgumentException) {
        throw ModelError("$path: is not an ONNX graph (${firstLine(error)}); pack again", error)
    }

    private fun checkContents(content: ByteBuffer, hasData: Boolean, operators: Set<String>?) {
        val found = try {
            OnnxFile.contents(content)
        } catch (error: IllegalArgumentException) {
            throw ModelError("$path: is not an ONNX graph (${firstLine(error)}); pack again", error)
        }
        val own = "${path.name}.data"
        val outside = (if (hasData) found.files - own else found.files).minOrNull()
        if (outside != null) {
            val why = if (outside == own) "this runtime does not open" else "is not its own file"
            throw ModelError("$path: has data in '$outside', which $why; do not use it")
        }
        val foreign = (found.operators - (operators ?: found.operators)).minOrNull()
        if (foreign != null) {
            throw ModelError(
                "$path: has the operator '$foreign', which mqtool never writes; if you trust the model, " +
                    "allow any operator (operators = null)",
            )
        }
    }

    /** onnxruntime maps the file that it is given, and copies what it is handed in memory. */
    private fun openInflated(
        content: ByteBuffer,
        data: CodedStream,
        threads: Int,
        options: OrtSession.SessionOptions,
    ): OrtSession {
        val folder = Files.createTempDirectory("mqruntime").toFile()
        try {
            val graph = File(folder, path.name)
            FileOutputStream(graph).channel.use { it.write(content.duplicate()) }
            val workers = if (threads > 0) threads else Runtime.getRuntime().availableProcessors()
            data.inflateTo(File(folder, "${path.name}.data"), workers)
            return environment.createSession(graph.path, options)
        } catch (error: IllegalArgumentException) {
            throw ModelError("$path.data: ${firstLine(error)}; copy or pack it again", error)
        } catch (error: IOException) {
            throw ModelError("$path.data: cannot be inflated (${firstLine(error)}); make room on this device", error)
        } finally {
            folder.deleteRecursively()
        }
    }

    /**
     * Run once.
     *
     * @param feeds one tensor for every graph input.
     * @return every graph output that is a tensor by name, for the caller to close.
     * @throws ModelError the session is closed, an input does not fit, or a node failed.
     */
    override fun run(feeds: Map<String, OnnxTensor>): Outputs = run(feeds, null)

    /** Likewise; setting `terminate` of `options` ends it between two nodes. */
    internal fun run(feeds: Map<String, OnnxTensor>, options: OrtSession.RunOptions?): Outputs {
        val session = begin()
        try {
            val result = session.run(feeds, options)
            val tensors = LinkedHashMap<String, OnnxTensor>()
            for ((name, value) in result) if (value is OnnxTensor) tensors[name] = value
            return Outputs(tensors, result)
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

/**
 * An output of a graph, as its task takes it: what it is fed to next stays bounded.
 *
 * @param outputs of a run, by name.
 * @param name of the one that is wanted.
 * @param shape its dimensions; null for one of any length above 0.
 * @throws ModelError it is not there, not float32, or of another shape.
 */
internal fun checkedOutput(outputs: Map<String, OnnxTensor>, name: String, vararg shape: Long?): OnnxTensor {
    val tensor = outputs[name]
    if (tensor == null) {
        val there = outputs.keys.sorted().take(6).joinToString().ifEmpty { "nothing" }
        throw ModelError("a graph gives no tensor '$name' but $there; export the model again")
    }
    val found = tensor.info.shape
    val fits = found.size == shape.size &&
        found.indices.all { found[it] == shape[it] || shape[it] == null && found[it] > 0 }
    if (!tensor.isFloat || !fits) {
        val wanted = shape.joinToString { it?.toString() ?: "any" }
        throw ModelError(
            "a graph's output '$name' is ${typeName(tensor)} ${found.toList()}, not float32 [$wanted]; " +
                "export the model again",
        )
    }
    return tensor
}

internal val OnnxTensor.isFloat: Boolean
    get() = info.onnxType == TensorInfo.OnnxTensorType.ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT

/** As numpy calls it. */
private fun typeName(tensor: OnnxTensor) = when {
    tensor.isFloat -> "float32"
    tensor.info.type == OnnxJavaType.DOUBLE -> "float64"
    tensor.info.type == OnnxJavaType.STRING -> "object"
    else -> tensor.info.type.name.lowercase(Locale.ROOT)
}

/** A tensor's values. */
internal fun OnnxTensor.floats(): FloatArray {
    val buffer = values()
    return FloatArray(buffer.remaining()).also(buffer::get)
}

/** The values of a tensor [1, rows, columns]. */
internal fun OnnxTensor.rows(): Array<FloatArray> {
    val (_, rows, columns) = info.shape
    val buffer = values()
    return Array(rows.toInt()) { FloatArray(columns.toInt()).also(buffer::get) }
}

private fun OnnxTensor.values(): FloatBuffer {
    val count = info.numElements
    if (count > MOST_VALUES) {
        throw ModelError("a graph's output has $count numbers, over $MOST_VALUES; use another model")
    }
    return floatBuffer
}

private const val MOST_VALUES = 1L shl 28 // a gigabyte; a Java buffer takes no more than two
