/* Ends at once: what its exec takes is the exec. */
int main(void)
{
	return 0;
}
