package mqruntime

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource
import java.io.File

/** Only bundles that are exactly as they were written are opened. */
class BundleTest {
    @Test
    fun sameVerdictAsPythonOnEveryMutant() {
        val expected = "hello phone"
        var refused = 0
        for (mutant in TestData.mutants) {
            try {
                val bundle = Bundle.open(mutant.file)
                assertFalse(mutant.refused, "${mutant.file} was opened, Python refuses it")
                Recognizer.openBundle(bundle).use {
                    assertEquals(expected, it.transcribe(Wav.load(TestData.clip("toy.wav"))).text)
                }
            } catch (error: BundleError) {
                assertTrue(mutant.refused, "${mutant.file}: ${error.message}; Python opens it")
                assertTrue(mutant.file.name in error.message, error.message)
                assertFalse('\n' in error.message)
                refused += 1
            }
        }
        assertTrue(refused > 500, "$refused refused")
        assertTrue(refused < TestData.mutants.size)
    }

    @ParameterizedTest
    @ValueSource(booleans = [false, true])
    fun sameVerdictAsPythonOnTheVectorsOfItsSuite(withKey: Boolean, @TempDir folder: File) {
        val vectors = TestData.vectors
        val key = if (withKey) vectors.publicKey else null
        val others = ArrayList<String>()
        for (mutant in vectors.mutants) {
            val file = File(folder, "mutant.mqz").also { it.writeBytes(mutant.bundle) }
            val verdict = if (withKey) mutant.verdictWithKey else mutant.verdict
            val found = try {
                Recognizer.open(file, key, threads = 1).use { it.transcribe(vectors.pcm).text }
            } catch (error: ModelError) {
                assertFalse('\n' in error.message)
                "refused: ${error.message}"
            }
            val isSame = if (verdict == "text") found == vectors.text else found.startsWith("refused: ")
            if (!isSame) others.add("${mutant.what}: $found; in Python: $verdict")
        }
        assertEquals(emptyList<String>(), others)
        val refused = vectors.mutants.count { (if (withKey) it.verdictWithKey else it.verdict) == "refused" }
        assertTrue(refused > 200 && refused < vectors.mutants.size, "$refused of ${vectors.mutants.size} refused")
    }

    @Test
    fun manifestSaysWhatTheModelIs() {
        val bundle = Bundle.open(TestData.bundle("random-whisper"))
        assertEquals("whisper", bundle.manifest.model.family)
        assertEquals(setOf("encoder", "decoder"), bundle.manifest.graphs.keys)
        assertEquals("pcm", bundle.manifest.graphs.getValue("encoder").inputs.single().name)
        assertEquals(25L, bundle.manifest.graphs.getValue("encoder").opset)
        assertTrue(bundle.manifest.modelBytes <= bundle.manifest.budgetBytes!!)
        assertFalse(bundle.signed)
        val error = assertThrows(BundleError::class.java) { bundle.read("absent.onnx") }
        assertTrue("holds no 'absent.onnx'" in error.message)
    }

    @Test
    fun progressEndsAtTheWhole() {
        val seen = ArrayList<Pair<Long, Long>>()
        val bundle = Bundle.open(TestData.bundle("random-whisper")) { done, total -> seen.add(done to total) }
        assertEquals(seen.last().first, seen.last().second)
        assertEquals(bundle.manifest.files.sumOf { it.length }, seen.last().second)
        assertTrue(seen.zipWithNext().all { (a, b) -> a.first < b.first })
    }

    @Test
    fun missingFileAndFolderAreRefused(@TempDir folder: File) {
        for (path in listOf(File(folder, "absent.mqz"), folder)) {
            val error = assertThrows(BundleError::class.java) { Bundle.open(path) }
            assertTrue("cannot be read" in error.message, error.message)
        }
    }

    @Test
    fun unsignedBundleIsRefusedWhereAKeyIsGiven() {
        val key = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"
        val error = assertThrows(SignatureError::class.java) { Bundle.open(TestData.bundle("toy-ctc"), key) }
        assertTrue("is not signed" in error.message)
    }

    @Test
    fun namesThatCouldLeaveTheFolderAreRefused() {
        for (name in listOf("model.json", "golden/1.wav", "a-b_c.onnx")) assertTrue(Bundle.isEntryName(name), name)
        for (name in listOf("../a", "/a", "a/b", "golden/../a", ".a", "", "a\u0000", "a\n", "golden/", "C:a", "a\\b")) {
            assertFalse(Bundle.isEntryName(name), name)
        }
    }
}
