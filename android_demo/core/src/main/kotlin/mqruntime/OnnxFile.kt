package mqruntime

import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.nio.charset.CharacterCodingException

/**
 * What a graph refers to.
 *
 * @property files every other file that a tensor says its data is in; "" where it does not say which.
 * @property operators types of all nodes, `domain::` before those that are not ONNX's own.
 */
internal class GraphContents(val files: Set<String>, val operators: Set<String>)

/**
 * The little of ONNX's file format that opening a model needs, read without copying.
 *
 * An .onnx file is one protobuf message, ModelProto (messages:
 * https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, wire format:
 * https://protobuf.dev/programming-guides/encoding/). Field numbers used here:
 *
 *     ModelProto         graph 7, functions 25
 *     GraphProto         node 1, initializer 5, sparse_initializer 15
 *     FunctionProto      node 7, attribute_proto 11
 *     NodeProto          op_type 4, attribute 5, domain 7
 *     AttributeProto     t 5, g 6, tensors 10, graphs 11, sparse_tensor 22, sparse_tensors 23
 *     SparseTensorProto  values 1, indices 2
 *     TensorProto        external_data 13 (StringStringEntryProto: key 1, value 2), data_location 14
 */
internal object OnnxFile {
    private enum class Message { MODEL, GRAPH, FUNCTION, NODE, ATTRIBUTE, SPARSE_TENSOR, TENSOR }

    /** Messages that may hold a node or a tensor, by the message they are in and their field number there. */
    private val PARTS = mapOf(
        Message.MODEL to mapOf(7 to Message.GRAPH, 25 to Message.FUNCTION),
        Message.GRAPH to mapOf(1 to Message.NODE, 5 to Message.TENSOR, 15 to Message.SPARSE_TENSOR),
        Message.FUNCTION to mapOf(7 to Message.NODE, 11 to Message.ATTRIBUTE),
        Message.NODE to mapOf(5 to Message.ATTRIBUTE),
        Message.ATTRIBUTE to mapOf(
            5 to Message.TENSOR,
            6 to Message.GRAPH,
            10 to Message.TENSOR,
            11 to Message.GRAPH,
            22 to Message.SPARSE_TENSOR,
            23 to Message.SPARSE_TENSOR,
        ),
        Message.SPARSE_TENSOR to mapOf(1 to Message.TENSOR, 2 to Message.TENSOR),
        Message.TENSOR to emptyMap(),
    )
    private const val OP_TYPE = 4
    private const val DOMAIN = 7
    private const val EXTERNAL_DATA = 13
    private const val DATA_LOCATION = 14
    private const val BYTES = 2
    private const val MAX_DEPTH = 100
    private val ONNX_DOMAINS = setOf("", "ai.onnx")

    /**
     * Look everywhere in a model.
     *
     * @param content an .onnx file.
     * @throws IllegalArgumentException it is not a serialized ModelProto.
     */
    fun contents(content: ByteBuffer): GraphContents {
        val files = HashSet<String>()
        val operators = HashSet<String>()

        fun add(message: ByteBuffer, kind: Message, depth: Int) {
            require(depth < MAX_DEPTH) { "nested too deep" }
            if (kind == Message.TENSOR) {
                files.addAll(locations(message))
                return
            }
            var type = ""
            var domain = ""
            forEachField(message) { field, value, _ ->
                val part = PARTS.getValue(kind)[field]
                when {
                    value == null -> return@forEachField
                    part != null -> add(value, part, depth + 1)
                    kind == Message.NODE && field == OP_TYPE -> type = text(value)
                    kind == Message.NODE && field == DOMAIN -> domain = text(value)
                }
            }
            if (kind == Message.NODE) operators.add(if (domain in ONNX_DOMAINS) type else "$domain::$type")
        }
        add(content.duplicate(), Message.MODEL, 0)
        return GraphContents(files, operators)
    }

    /**
     * A file of any kind, read from the disk as it is used.
     *
     * @throws IOException it cannot be read.
     * @throws IllegalArgumentException it has 2 GB or more.
     */
    fun map(path: File): ByteBuffer =
        RandomAccessFile(path, "r").use { it.channel.map(FileChannel.MapMode.READ_ONLY, 0, it.length()) }

    /**
     * Every file that a tensor names, whichever onnxruntime would take: pieces of a message that is there
     * twice are one to it.
     */
    private fun locations(tensor: ByteBuffer): Set<String> {
        val found = HashSet<String>()
        var isExternal = false
        forEachField(tensor) { field, value, integer ->
            if (field == DATA_LOCATION && integer == 1L) isExternal = true
            if (field == EXTERNAL_DATA && value != null) {
                isExternal = true
                location(value)?.let(found::add)
            }
        }
        return if (isExternal && found.isEmpty()) setOf("") else found
    }

    /** The value of an entry of external_data whose key is `location`. */
    private fun location(entry: ByteBuffer): String? {
        val texts = HashMap<Int, String>()
        forEachField(entry) { field, value, _ -> if (value != null) texts[field] = text(value) }
        return if (texts[1] == "location") texts[2].orEmpty() else null
    }

    /** Call `read` with number, bytes (or null) and integer (or 0) of each field. */
    private fun forEachField(message: ByteBuffer, read: (Int, ByteBuffer?, Long) -> Unit) {
        while (message.hasRemaining()) {
            val key = varint(message)
            val field = (key ushr 3).toInt()
            when (val wire = (key and 7).toInt()) {
                0 -> read(field, null, varint(message))
                1 -> skip(message, 8)
                BYTES -> {
                    val length = varint(message)
                    require(length in 0..message.remaining()) { "truncated" }
                    read(field, piece(message, length.toInt()), 0)
                    skip(message, length.toInt())
                }
                5 -> skip(message, 4)
                else -> throw IllegalArgumentException("wire type $wire")
            }
        }
    }

    private fun text(value: ByteBuffer): String = try {
        Charsets.UTF_8.newDecoder().decode(value).toString()
    } catch (error: CharacterCodingException) {
        throw IllegalArgumentException("a name is not UTF-8", error)
    }

    private fun piece(message: ByteBuffer, length: Int): ByteBuffer {
        val piece = message.duplicate()
        piece.limit(piece.position() + length)
        return piece
    }

    private fun skip(message: ByteBuffer, count: Int) {
        require(count <= message.remaining()) { "truncated" }
        message.position(message.position() + count)
    }

    private fun varint(message: ByteBuffer): Long {
        var value = 0L
        for (shift in 0 until 70 step 7) {
            require(message.hasRemaining()) { "truncated" }
            val byte = message.get().toLong()
            value = value or ((byte and 0x7F) shl shift)
            if (byte >= 0) return value
        }
        throw IllegalArgumentException("an integer of more than 10 bytes")
    }
}
